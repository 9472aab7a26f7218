"""RunProgress: progress bar of a run, with losses, speed and remaining time."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from molformer.training.monitor import Monitor


class RunProgress(Callback):
    """Shows a progress bar on a terminal, or a line per epoch otherwise."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        size = sum(parameter.numel() for parameter in pl_module.parameters())
        steps = int(trainer.estimated_stepping_batches)
        self.console.print(f"{size:,} parameters, {trainer.max_epochs} epochs, {steps} steps")
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("epoch 1", total=steps, completed=trainer.global_step)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch, after validation."""
        metrics = trainer.callback_metrics
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        for name in ("train/loss", "val/loss"):
            if name in metrics:
                text += f"  {name} {float(metrics[name]):.4f}"
        speed = next(each.speed for each in trainer.callbacks if isinstance(each, Monitor))  # type: ignore[attr-defined]
        text += f"  {speed:.0f} molecules/s"
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        else:
            self.console.print(text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error message starts on a new line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
