"""Callbacks: best model, last checkpoint, averaged weights, and random seeds."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.callbacks import early_stopping as lightning_early_stopping
from lightning.pytorch.callbacks.weight_averaging import WeightAveraging
from torch import Tensor

from molformer.training.task import PropertyTask
from molformer.uncertainty.calibration import FILE as CALIBRATION

LAST = "last.ckpt"  # name of the checkpoint from which a run is resumed


class BestModel(Callback):
    """Saves the model folder whenever the validation loss is the best so far.

    It must precede the callback that averages weights, so that it saves the validated, averaged weights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = float("inf")
        self.epoch = -1

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if they are the best."""
        assert isinstance(pl_module, PropertyTask)
        loss = float(pl_module.validation_losses()["loss"])
        if trainer.sanity_checking or not loss < self.best:
            return
        self.best, self.epoch = loss, trainer.current_epoch
        if trainer.is_global_zero:
            (self.folder / CALIBRATION).unlink(missing_ok=True)  # belongs to earlier weights
            pl_module.model.save(self.folder)

    def state_dict(self) -> dict[str, Any]:
        """State for resumption."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]


class EarlyStopping(lightning_early_stopping.EarlyStopping):
    """Lightning's early stopping; a run that had stopped is not continued by resumption unless patience is greater."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, but not the patience, which may be changed."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a run that has waited long enough."""
        trainer.should_stop = self.wait_count >= self.patience


class LastCheckpoint(Checkpoint):
    """Saves the state of the run after every epoch in `last.ckpt`, which is replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint; Lightning calls this after all other callbacks."""
        part = self.folder / f".{LAST}.part"
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                os.replace(part, self.folder / LAST)
        finally:
            if trainer.is_global_zero:
                part.unlink(missing_ok=True)


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, used for validation and saved.

    w̄ ← w̄ + (1 - d_n)(w - w̄) with d_n = min(decay, (1 + n)/(10 + n)) at step n, so that the initial weights have
    little influence in a short run. Buffers are not averaged.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None  # averages and weights
        self._count = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average when a fit begins."""
        super().setup(trainer, pl_module, stage)
        self._pairs = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average in one fused operation; that of `AveragedModel` synchronises several times."""
        if trainer.global_step <= self._latest_update_step:
            return
        self._latest_update_step = trainer.global_step
        average = self._average_model
        assert average is not None
        if self._pairs is None:  # a checkpoint has been read by now
            averages, weights = ([p.detach() for p in module.parameters()] for module in (average.module, pl_module))
            self._pairs, self._count = (averages, weights), int(average.n_averaged)
        decay = min(self.decay, (1 + self._count) / (10 + self._count)) if self._count else 0.0
        torch._foreach_lerp_(*self._pairs, 1 - decay)
        self._count += 1
        average.n_averaged += 1


class StepSeed(Callback):
    """Seeds torch's generator before every batch, so that a resumed run is reproducible."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed from run, epoch, batch and process."""
        place = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
