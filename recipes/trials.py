"""What each setting of `configs/qm9_small.yaml` is worth: `python -m recipes.trials STORE -o FOLDER [--minutes 4]`.

STORE is `qm9.safetensors` as `recipes.qm9` makes it. All trials have messages of 16 channels, with which a network sees
nearly twice as many molecules in a time. A trial changes one thing and has as much of the processor's time,
in one thread, as any other: how many molecules it learns from follows from its speed, which is measured first. The rate
rises, then falls along a cosine. Errors are those of validation molecules; test molecules are not looked at. A trial
that is finished is not done again.
"""

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import lightning
import torch
import typer
from lightning import Callback

from molformer.data.splits import SplitPolicy, make_split
from molformer.data.store import StructureStore
from molformer.models import SE3TransformerConfig
from molformer.training.arguments import read_configs
from molformer.training.config import TrainingConfig
from molformer.training.run import data_module, new_task
from molformer.training.trainer import make_trainer, quiet_lightning
from recipes.qm9 import SPLIT

CONFIG = "configs/qm9_small.yaml"
COMMON = ["--message_channels=16", "--epochs=1", "--warmup=0.1", "--cooldown=0", "--device=cpu"]

WARM, TIMED = 5, 30
"""Steps that are not timed, and those by which the speed is told."""

TRIALS = {
    "messages of 16 channels, all else as in the config": [],
    "SE(3)": ["--group=SE(3)"],
    "lmax 1": ["--lmax=1"],
    "lmax 3": ["--lmax=3"],
    "cutoff 3 Å": ["--cutoff=3"],
    "cutoff 5 Å": ["--cutoff=5"],
    "32 channels": ["--channels=32"],
    "128 channels": ["--channels=128"],
    "3 layers": ["--num_layers=3"],
    "6 layers": ["--num_layers=6"],
    "2 heads": ["--num_heads=2"],
    "8 heads": ["--num_heads=8"],
    "Noisy Nodes, 0.02 Å": ["--noise=0.02"],
    "intensive targets: mean of the atoms": ["--pooling=mean"],
    "Huber loss": ["--loss=huber"],
    "squared loss": ["--loss=mse"],
    "no average of the weights": ["--ema_decay=0"],
    "messages of 32 channels": ["--message_channels=32"],
    "the first again, seed 1": ["--seed=1"],
    "HOMO alone": ['--targets=["homo"]', "--target_weights={}"],
    "rate 0.001": ["--learning_rate=0.001"],
    "rate 0.004": ["--learning_rate=0.004"],
    "batches of 16": ["--batch_size=16"],
    "batches of 64": ["--batch_size=64"],
}
"""Name of each trial, and the keys it changes."""


@dataclass(frozen=True)
class Trial:
    """What a trial gave.

    Args:
        parameters: of the network.
        minutes: of the processor, training alone.
        seen: molecules learnt from.
        homo: mean absolute error of HOMO, eV.
        loss: weighted sum over the targets, which trials of other losses or targets do not share.
    """

    parameters: int
    minutes: float
    seen: int
    homo: float
    loss: float


def fit(encoder: SE3TransformerConfig, training: TrainingConfig, clock: "Clock") -> dict[str, float]:
    """Train, and give what is measured on the validation part."""
    data = data_module(training)
    lightning.seed_everything(training.seed, verbose=False)
    with quiet_lightning():
        trainer = make_trainer(Path(training.run), training, [], clock, {})
        trainer.fit(new_task(encoder, training, data), data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


class Clock(Callback):
    """The processor's time from one step to another.

    Args:
        first: step after which it starts.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.started = self.now = 0.0
        self.parameters = 0

    @property
    def seconds(self) -> float:
        """From the first step that counts to the last."""
        return self.now - self.started

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start, if no step is left out."""
        self.started = time.process_time()
        self.parameters = sum(parameter.numel() for parameter in pl_module.parameters())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock."""
        self.now = time.process_time()
        if batch_idx + 1 == self.first:
            self.started = self.now


def run_trial(name: str, store: Path, output: Path, minutes: float) -> Trial:
    """Measure the speed of a trial, and give it its time; or read what it gave before."""
    folder = output / "".join(letter if letter.isalnum() else "_" for letter in name)
    result = folder / "trial.json"
    if result.exists():
        return Trial(**json.loads(result.read_text(encoding="utf-8")))
    shutil.rmtree(folder, ignore_errors=True)  # of a trial that was stopped
    torch.set_num_threads(1)
    data = ["--data", str(store), "--split_by=file", "--split_file", str(output / "split.json")]
    encoder, training = read_configs(CONFIG, [*COMMON, *data, *TRIALS[name]])
    clock = Clock(WARM)
    steps = WARM + TIMED
    few = replace(training, run=str(folder / "speed"), split_file=str(output / "few.json"))
    fit(encoder, replace(few, epoch_size=steps * few.batch_size), clock)
    steps = round(60 * minutes * TIMED / clock.seconds)
    clock = Clock()
    whole = replace(training, run=str(folder / "run"), epoch_size=steps * training.batch_size)
    found = fit(encoder, whole, clock)
    trial = Trial(clock.parameters, clock.seconds / 60, whole.epoch_size, found["val/homo/mae"], found["val/loss"])
    folder.mkdir(exist_ok=True)
    result.write_text(json.dumps(asdict(trial)), encoding="utf-8")
    return trial


def write_splits(store: StructureStore, output: Path) -> None:
    """The split of the recipe for the trials, and one with few validation molecules for measuring their speed."""
    split = make_split(store, SplitPolicy(fractions=SPLIT))
    train, val = split.train.tolist(), split.val.tolist()
    left = max(1, len(val) // 50)  # a run wants test molecules: these are not those of the test
    for name, count in (("split", len(val) - left), ("few", left)):
        parts = {"train": train, "val": val[:count], "test": val[-left:]}
        (output / f"{name}.json").write_text(json.dumps(parts), encoding="utf-8")


def main(
    store: Annotated[Path, typer.Argument(help="structure store of QM9, as recipes.qm9 makes it")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the runs")],
    minutes: Annotated[float, typer.Option(help="of the processor, for each")] = 4.0,
    processes: Annotated[int, typer.Option(help="trials at a time")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="some of the trials, by name")] = None,
) -> None:
    """Print a table of settings."""
    output.mkdir(parents=True, exist_ok=True)
    write_splits(StructureStore(store), output)
    print("| trial | parameters | minutes | molecules seen | HOMO, meV | loss |")
    print("|---|---|---|---|---|---|", flush=True)
    names = only or list(TRIALS)
    job = partial(run_trial, store=store, output=output, minutes=minutes)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for name, trial in zip(names, pool.map(job, names), strict=True):
            print(row(name, trial), flush=True)


def row(name: str, trial: Trial) -> str:
    """A trial as a row of the table."""
    cells = f"{trial.parameters:,} | {trial.minutes:.1f} | {trial.seen:,} | {1000 * trial.homo:.0f} | {trial.loss:.2f}"
    return f"| {name} | {cells} |"


if __name__ == "__main__":
    typer.run(main)
