"""Metrics of a run: one row per epoch in `metrics.csv`, and the same in W&B.

The columns are the epoch, the losses and errors of both parts, the learning rate, the norm of the gradient, molecules a
second, seconds of training and the peak memory.
"""

import csv
import logging
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

EPOCHS_LOG = logging.getLogger("molformer.epochs")  # receives a line per epoch, written to `train.log` only
EPOCHS_LOG.propagate = False


class Monitor(Callback):
    """Measures speed, memory and gradients, and writes `metrics.csv`.

    A resumed run continues the same file; rows of repeated epochs are removed first.

    Attributes:
        seconds: of training so far, including resumed parts.
        machine: hardware and version of torch.
        speed: molecules a second of the last epoch, without validation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 0.0
        self.machine = ""
        self.speed = 0.0
        self._molecules = 0
        self._norms: list[torch.Tensor] = []
        self._start = self._epoch_start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove rows that a resumed run will repeat."""
        self._start = time.perf_counter() - self.seconds
        self.machine = _machine(pl_module.device)
        if trainer.is_global_zero and self.path.is_file():
            rows = [row for row in read_metrics(self.path) if row["epoch"] < trainer.current_epoch]
            self._write(rows)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counters."""
        self._molecules, self._norms, self._epoch_start = 0, [], time.perf_counter()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Record the gradient norm before clipping."""
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._norms.append(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count molecules."""
        self._molecules += batch.num_graphs * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the timer of the epoch."""
        now = time.perf_counter()
        self.speed = self._molecules / max(1e-9, now - self._epoch_start)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row, after validation."""
        self.seconds = time.perf_counter() - self._start
        losses = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        measured = {
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "gradient_norm": float(torch.stack(self._norms).mean()) if self._norms else float("nan"),
            "molecules_per_second": self.speed,
            "seconds": self.seconds,
            "memory_gb": peak_memory(pl_module.device),
        }
        for log in trainer.loggers:
            log.log_metrics(measured | {"epoch": trainer.current_epoch}, step=trainer.global_step)
        if trainer.is_global_zero:
            rows = read_metrics(self.path) if self.path.is_file() else []
            row = {"epoch": trainer.current_epoch, "step": trainer.global_step} | losses | measured
            self._write([*rows, row])
            EPOCHS_LOG.info("%s", "  ".join(f"{name} {value:.5g}" for name, value in row.items()))

    def state_dict(self) -> dict[str, Any]:
        """State for resumption."""
        return {"seconds": self.seconds, "machine": self.machine}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.seconds = state_dict["seconds"]
        self.machine = state_dict.get("machine", "a machine that an older version did not note")

    def _write(self, rows: list[dict[str, float]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with open(part, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.csv`, numbers where there are any."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: _number(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def _machine(device: torch.device) -> str:
    cpu = f"{platform.machine()} CPU with {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else cpu}, torch {torch.__version__}"


def peak_memory(device: torch.device) -> float:
    """Largest memory so far, GB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
