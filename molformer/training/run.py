"""A training run from its configs to a model folder.

The run folder holds `config.yaml` (every setting), `split.json`, `run.json` (hash of the data, versions), `model/`
(best weights and model card), `last.ckpt` (from which a run goes on), `metrics.csv`, `test_predictions.csv`, `plots/`,
`train.log` and, with W&B, `wandb_run_id`.
"""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from molformer.data.datamodule import MoleculeDataModule, StoreDataModule
from molformer.data.points import PointCloudDataModule
from molformer.data.splits import SplitPolicy, write_split
from molformer.data.statistics import atom_rows
from molformer.data.store import StructureStore, store_path
from molformer.errors import ConfigError, ModelError, TrainingError
from molformer.models.checks import equivariance_error
from molformer.models.config import SE3TransformerConfig
from molformer.models.property import Domain, PropertyModel, check_device, load_model
from molformer.training.callbacks import LAST, BestModel, LastCheckpoint, MovingAverage, StepSeed
from molformer.training.config import TrainingConfig
from molformer.training.distributed import writes_files
from molformer.training.evaluation import TargetErrors, evaluate, predict_batches
from molformer.training.model_card import command_line, write_model_card
from molformer.training.monitor import EPOCHS_LOG, Monitor
from molformer.training.preflight import out_of_memory_advice, preflight
from molformer.training.report import write_plots, write_predictions
from molformer.training.task import PropertyTask
from molformer.training.tracking import log_report, wandb_logger
from molformer.version import __version__

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the run folder."""

_PRECISION = {"32": "32-true", "tf32": "32-true", "64": "64-true", "bf16-mixed": "bf16-mixed"}

_FOLDER_OF_RANK_ZERO = "MOLFORMER_RUN"  # so that the processes that Lightning starts know the folder

_EXPECTED_WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",  # collating here is faster than a worker's queue
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # the run folder holds the run's config already
    ".*overridden `transfer_batch_to_device` in `LightningModule`.*",  # meant so
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning on a newer torch
    ".*`compute` method of metric .* was called before the `update` method.*",  # a process without validation batches
    ".*Grad strides do not match bucket view strides.*",  # of two processes; what it costs is not worth a copy
    ".*find_unused_parameters=True was specified.*",  # which parameters are used depends on the targets
    ".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint.*",  # one that shows progress
)


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave.

    Args:
        folder: the run folder.
        model: the model folder inside it.
        errors: of each target on the test part.
        epochs: that were trained, over all parts of a run that was resumed.
        seconds: of training.
    """

    folder: Path
    model: Path
    errors: list[TargetErrors]
    epochs: int
    seconds: float


def train(
    encoder: SE3TransformerConfig, training: TrainingConfig, progress: Callback | None = None, resume: bool = False
) -> TrainingResult:
    """Train a model and test it.

    Args:
        encoder: sizes of the network; with `initial`, those of the model that is started from count.
        training: data, targets and optimisation.
        progress: callback that shows how far the run is; none shows nothing.
        resume: go on in the run folder, from the state after its last epoch.

    Returns:
        The same in every process of a distributed run.

    Raises:
        ConfigError: the settings do not fit the data, or the run folder holds a run already.
        StoreError: the store is missing or lacks a target.
        TrainingError: the loss is no longer finite, memory or disk do not suffice.
    """
    check_device(training.device)
    folder = _folder(training)
    training = replace(training, run=str(folder))
    if not resume and writes_files() and (folder / "config.yaml").exists():
        raise ConfigError(
            f"'{folder}' holds a run already: choose another folder with --run, delete it, or go on with "
            f"--resume {folder}"
        )
    initial = load_model(training.initial, "cpu") if training.initial else None
    if initial is not None:
        encoder = replace(initial.config, stochastic_depth=encoder.stochastic_depth)
    data = _data_module(training, folder / "split.json" if resume else None)
    lightning.seed_everything(training.seed, verbose=False)
    task = _task(encoder, training, data, initial)
    if writes_files():
        if resume:
            _check_folder(folder, data)
        else:
            _start_folder(folder, encoder, training, data)
    with _log_file(folder):
        return _run(folder, task, training, data, progress, resume)


def _run(
    folder: Path,
    task: PropertyTask,
    training: TrainingConfig,
    data: StoreDataModule,
    progress: Callback | None,
    resume: bool,
) -> TrainingResult:
    best, monitor = BestModel(folder / "model"), Monitor(folder / "metrics.csv")
    checkpoint = folder / LAST if resume and (folder / LAST).is_file() else None
    try:
        with _quiet_lightning(), out_of_memory_advice(training):
            trainer = _trainer(
                folder, training, [best, monitor], progress, asdict(training) | task.model.config.to_dict()
            )
            if trainer.world_size == 1:
                context = trainer.precision_plugin.forward_context()
                logger.info("%s", preflight(task, data, context, trainer.strategy.root_device))
            trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
            trainer.strategy.barrier()
    except SystemExit:  # Lightning's answer to an interrupt
        if best.epoch >= 0:
            logger.info("the state after the last epoch is kept; go on with: molformer train --resume %s", folder)
        raise KeyboardInterrupt from None
    except (OSError, ModelError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(
            f"cannot write to '{folder}': {reason}; the last checkpoint is whole: make room and go on with "
            f"--resume {folder}"
        ) from None
    finally:
        if best.epoch < 0 and not resume and writes_files():  # nothing was learnt: the same run can be started again
            shutil.rmtree(folder, ignore_errors=True)
    if best.epoch < 0:
        raise TrainingError("no epoch ended with a finite validation loss: lower learning_rate")
    return _finish(folder, task, training, data, trainer, monitor.seconds)


def _finish(
    folder: Path,
    task: PropertyTask,
    training: TrainingConfig,
    data: StoreDataModule,
    trainer: lightning.Trainer,
    seconds: float,
) -> TrainingResult:
    """Test the best model and write what a run leaves."""
    model = PropertyModel.load(folder / "model").to(task.device)
    predicted = predict_batches(model, data.test_dataloader())
    errors = evaluate(predicted, data.targets, data)
    if writes_files():
        write_predictions(folder, predicted, data.targets, data.store, data.split.test)
        plots = write_plots(folder, predicted, errors, folder / "metrics.csv")
        few = data.dataset(data.split.test, training=False)[next(iter(data.batches(data.split.test, False)))[:8]]
        symmetry = {
            name: equivariance_error(model, few, dtype)
            for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
        }
        write_model_card(model, data, training, errors, symmetry, trainer.current_epoch, seconds, folder / "model")
        for log in trainer.loggers:
            if isinstance(log, WandbLogger):
                log_report(log, folder / "model", plots, errors, predicted, data.store, data.split.test)
    return TrainingResult(folder, folder / "model", errors, trainer.current_epoch, seconds)


def _folder(training: TrainingConfig) -> Path:
    """The run folder: as it is named, or a new one after the data and the targets."""
    if training.run:
        return Path(training.run)
    if not writes_files():
        if _FOLDER_OF_RANK_ZERO not in os.environ:
            raise ConfigError("name the run folder with --run where several processes are started from outside")
        return Path(os.environ[_FOLDER_OF_RANK_ZERO])
    first = training.data if isinstance(training.data, str) else training.data[0]
    words = [Path(first).name.split(".")[0], *training.target_names[:3]]
    name = "-".join("".join(letter if letter.isalnum() else "_" for letter in word) for word in words)
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    os.environ[_FOLDER_OF_RANK_ZERO] = str(folder)
    return folder


def _data_module(training: TrainingConfig, split_file: Path | None) -> StoreDataModule:
    """The data of a run; a resumed one reads its split."""
    store = _open_store(training)
    if training.points:
        return PointCloudDataModule(
            store,
            training.target_names[0],
            training.cloud_options(),
            training.split,
            training.batch_size,
            training.epoch_size,
            training.seed,
            training.workers,
        )
    policy = training.split_policy()
    if split_file is not None and split_file.is_file():
        policy = SplitPolicy("file", file=str(split_file))
    return MoleculeDataModule(
        store,
        training.target_names,
        policy,
        training.batch_size,
        training.batch_atoms,
        training.batch_edges,
        training.epoch_size,
        training.seed,
        training.workers,
    )


def _open_store(training: TrainingConfig) -> StructureStore:
    if isinstance(training.data, str) and store_path(training.data).is_file():
        return StructureStore(training.data)
    from molformer.data.importing import open_data  # needs RDKit, which training from a store does not

    return open_data(training.data, training.targets, training.smiles_column, processes=os.cpu_count() or 1)


def _task(
    encoder: SE3TransformerConfig, training: TrainingConfig, data: StoreDataModule, initial: PropertyModel | None
) -> PropertyTask:
    domain = Domain(
        elements=tuple(_elements(data)),
        max_atoms=int(data.store.sizes[data.split.train].max()),
        geometries=tuple(data.store.manifest["geometries"]),
    )
    targets = [target.to_dict() for target in data.targets]
    task = PropertyTask(encoder.to_dict(), targets, asdict(training), domain.to_dict())
    task.model.set_statistics(data.statistics())
    if initial is not None:
        task.model.encoder.load_state_dict(initial.encoder.state_dict())
    if training.precision == "64":
        task.double()  # before the average of the weights is made from it
    if training.compile:
        if task.model.derived:
            raise ConfigError(
                "compile is not for conservative forces or stress: torch.compile has no second derivative"
            )
        for block in task.model.encoder.blocks:
            block.compile(dynamic=True)
    return task


def _trainer(
    folder: Path, training: TrainingConfig, kept: list[Callback], progress: Callback | None, settings: dict[str, object]
) -> lightning.Trainer:
    callbacks = [
        *kept,  # before the averaging, see `BestModel`
        StepSeed(training.seed),
        LastCheckpoint(folder),
        EarlyStopping("val/loss", patience=training.patience, check_finite=False),
    ]
    if training.ema_decay > 0:
        callbacks.append(MovingAverage(training.ema_decay))
    if progress is not None:
        callbacks.append(progress)
    torch.set_float32_matmul_precision("high" if training.precision == "tf32" else "highest")
    wandb = wandb_logger(folder, training.wandb, settings) if writes_files() else None
    alone = training.devices == training.nodes == 1
    on_cpu = training.device == "cpu" or not torch.cuda.is_available()
    return lightning.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[training.device],
        devices=training.devices,
        num_nodes=training.nodes,
        strategy=(
            "auto"
            if alone
            else DDPStrategy(find_unused_parameters=True, process_group_backend="gloo" if on_cpu else "nccl")
        ),
        use_distributed_sampler=False,  # the batches know the processes
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


def _start_folder(folder: Path, encoder: SE3TransformerConfig, training: TrainingConfig, data: StoreDataModule) -> None:
    about = {
        "format": FORMAT,
        "data_sha256": data.store.manifest["sha256"],
        "molformer": __version__,
        "torch": str(torch.__version__),
        "command": command_line(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_split(data.split, folder / "split.json")
        (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        settings = yaml.safe_dump(asdict(training) | encoder.to_dict(), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the run folder '{folder}': {error.strerror}") from None


def _check_folder(folder: Path, data: StoreDataModule) -> None:
    """Refuse to go on with other data, or with a run of a later version."""
    try:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        version, sha256 = about["format"], about["data_sha256"]
    except (OSError, ValueError, KeyError):
        raise ConfigError(f"'{folder}' is not a run folder: it has no readable run.json") from None
    if version > FORMAT:
        raise ConfigError(
            f"'{folder}' has run format {version}, this version reads up to {FORMAT}: install a newer molformer"
        )
    if sha256 != data.store.manifest["sha256"]:
        raise ConfigError(f"the data of '{folder}' have changed since the run began: start a new run")


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Keep what is logged, and a line an epoch, in `train.log`."""
    if not writes_files():
        yield
        return
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger("molformer"), EPOCHS_LOG]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
            log.removeHandler(handler)
        handler.close()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def _elements(data: StoreDataModule) -> list[int]:
    numbers = data.store.column("numbers")[atom_rows(data.store, data.split.train)]
    return [int(number) for number in np.unique(numbers)]
