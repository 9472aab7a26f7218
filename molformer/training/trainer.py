"""The Lightning trainer of a run: devices, precision, callbacks and loggers."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy

from molformer.training.callbacks import EarlyStopping, LastCheckpoint, MovingAverage, StepSeed
from molformer.training.config import TrainingConfig
from molformer.training.distributed import writes_files
from molformer.training.tracking import wandb_logger

_PRECISION = {"32": "32-true", "tf32": "32-true", "64": "64-true", "bf16-mixed": "bf16-mixed"}

_EXPECTED_WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",  # collating here is faster than a worker's queue
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # the run folder holds the run's config already
    ".*overridden `transfer_batch_to_device` in `LightningModule`.*",  # intended
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning on a newer torch
    ".*`compute` method of metric .* was called before the `update` method.*",  # a process without validation batches
    ".*Grad strides do not match bucket view strides.*",  # of two processes; what it costs is not worth a copy
    ".*find_unused_parameters=True was specified.*",  # which parameters are used depends on the targets
    ".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint.*",  # one that shows progress
)


def make_trainer(
    folder: Path,
    training: TrainingConfig,
    first: Sequence[Callback],
    progress: Callback | None,
    settings: dict[str, Any],
) -> lightning.Trainer:
    """A trainer of a run, with callbacks that precede the averaging of weights, see `BestModel`, one that shows the
    progress, and settings to be shown by W&B.
    """
    callbacks = [
        *first,
        StepSeed(training.seed),
        LastCheckpoint(folder),
        EarlyStopping("val/loss", patience=training.patience, check_finite=False),
    ]
    if training.ema_decay > 0:
        callbacks.append(MovingAverage(training.ema_decay))
    if progress is not None:
        callbacks.append(progress)
    wandb = wandb_logger(folder, training.wandb, settings) if writes_files() else None
    alone = training.devices == training.nodes == 1
    on_cpu = training.device == "cpu" or not torch.cuda.is_available()
    backend = "gloo" if on_cpu else "nccl"
    torch.set_float32_matmul_precision("high" if training.precision == "tf32" and not on_cpu else "highest")
    return lightning.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[training.device],
        devices=training.devices,
        num_nodes=training.nodes,
        strategy="auto" if alone else DDPStrategy(find_unused_parameters=True, process_group_backend=backend),
        use_distributed_sampler=False,  # `EpochBatches` distributes batches
        precision=_PRECISION[training.precision],  # type: ignore[arg-type]
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.gradient_clip,
        callbacks=callbacks,
        logger=wandb or False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # forces need gradients in validation
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Context without Lightning's start-up messages and without warnings about intended settings."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield
