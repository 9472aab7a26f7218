"""Callbacks of a training run."""

import logging
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from molformer.models.property import PropertyModel

logger = logging.getLogger(__name__)


class BestModel(Callback):
    """Saves the model folder whenever the validation loss is the best so far.

    It must stand before the callback that averages weights, so that it sees the averaged ones, which are those that
    were validated.

    Args:
        folder: the model folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = float("inf")
        self.epoch = -1
        self._sum = self._count = 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new mean."""
        self._sum = self._count = 0.0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch's loss."""
        self._sum += float(outputs) * batch.num_graphs
        self._count += batch.num_graphs

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if they are the best."""
        loss = self._sum / max(1.0, self._count)
        if trainer.sanity_checking or not loss < self.best:
            return
        self.best, self.epoch = loss, trainer.current_epoch
        if trainer.is_global_zero:
            model = pl_module.model
            assert isinstance(model, PropertyModel)
            model.save(self.folder)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]
