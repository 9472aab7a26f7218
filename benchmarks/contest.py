"""Who learns most in the same time: `python -m benchmarks.contest STORE [--minutes 20] [--peers FOLDER]`.

The preset `small`, TensorNet and MACE learn the HOMO energies of 10,000 molecules of QM9 with one loop, one after the
other on the same threads. Other packages try two rates for a fifth of the time, and go on with the better one, by its
test error, which favours them. `--only small wider` compares keys and values of 16 channels with such of 32. See
`benchmarks.peers.contest`.
"""

import argparse
import tempfile
from dataclasses import asdict, dataclass, field
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, report
from benchmarks.peers.contest import Contest, Result
from benchmarks.peers.protocol import Clock
from benchmarks.speed import PEERS, program
from molformer import units
from molformer.data.datamodule import MoleculeDataModule
from molformer.data.splits import SplitPolicy
from molformer.data.statistics import atom_rows
from molformer.data.store import StructureStore
from molformer.models import preset

SPLIT = (10_000, 1_000, 2_000)
"""Molecules to learn from, none of a validation part, and those of the test."""

TRIAL = 0.2
"""Share of the time for which a rate is tried."""


@dataclass(frozen=True)
class Contestant:
    """A package.

    Args:
        name: in the table.
        rates: learning rate, or several to choose from.
        peer: name of its environment; empty for this package's own.
        options: for the program.
    """

    name: str
    rates: tuple[float, ...]
    peer: str = ""
    options: dict[str, Any] = field(default_factory=dict)


PACKAGES = {
    "small": Contestant("molformer, preset `small`", (0.002,), options={"preset": "small"}),
    "tensornet": Contestant("TensorNet", (0.0005, 0.002), "torchmd-net"),
    "mace": Contestant("MACE", (0.002, 0.01), "mace-torch"),
}
WIDER = {**preset("small").to_dict(), "message_channels": 32}
CONTESTANTS = PACKAGES | {
    "wider": Contestant("the same with messages of 32 channels", (0.002,), options={"config": WIDER})
}


def write(store: StructureStore, target: str, path: Path) -> None:
    """The molecules of the contest as an NPZ file, labels in eV."""
    data = MoleculeDataModule(store, [target], SplitPolicy(fractions=SPLIT), batch_size=1)
    rows = np.concatenate([data.split.train, data.split.test])
    atoms = atom_rows(store, rows)
    factor = units.factor(data.targets[0].unit, "eV")
    np.savez(
        path,
        numbers=store.column("numbers")[atoms].astype(np.int64),
        pos=store.column("pos")[atoms].astype(np.float32),
        ptr=np.concatenate([[0], np.cumsum(store.sizes[rows])]),
        label=factor * np.array([float(store[int(row)].labels[target]) for row in rows]),
        train=np.arange(len(data.split.train)),
        test=np.arange(len(data.split.train), len(rows)),
    )


def main() -> None:
    """Print the table; a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path, help="structure store of QM9")
    parser.add_argument("--target", default="homo")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="minutes of the processor's time, of one thread")
    parser.add_argument("--peers", type=Path, default=PEERS, help="folder of the peers' environments")
    parser.add_argument("--only", nargs="+", default=list(PACKAGES), choices=CONTESTANTS, help="who takes part")
    arguments = parser.parse_args()
    clock: Clock = "cpu" if arguments.cpu_time else "wall"
    print(f"{machine.describe(arguments.threads, clock)}\n")
    columns = ("network", "parameters", "rate", "minutes", "molecules seen", "test error, meV", "seen a second")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "molecules.npz"
        write(StructureStore(arguments.store), arguments.target, file)

        def result(contestant: Contestant, rate: float, minutes: float) -> Result:
            report.progress(f"{contestant.name}, rate {rate:g}, {minutes:g} minutes\n")
            options = {"threads": arguments.threads, "clock": clock, "options": contestant.options}
            contest = Contest(str(file), 60 * minutes, rate, **options)
            command = [*program(contestant.peer, arguments.peers), dumps(asdict(contest))]
            found = Result(**machine.run(command, {"OMP_NUM_THREADS": str(arguments.threads)}, shown=True))
            millis = f"{1000 * found.error:.1f} ± {1000 * found.half_width:.1f}"
            row = f"{found.parameters:,} | {rate:g} | {minutes:g} | {found.seen:,} | {millis}"
            print(f"| {contestant.name} | {row} | {found.seen / (60 * minutes):.0f} |", flush=True)
            return found

        for contestant in (CONTESTANTS[name] for name in arguments.only):
            rates = contestant.rates
            try:
                if len(rates) > 1:
                    errors = [result(contestant, rate, TRIAL * arguments.minutes).error for rate in rates]
                    rates = (rates[int(np.argmin(errors))],)
                result(contestant, rates[0], arguments.minutes)
            except machine.ProgramFailed as error:
                print(f"| {contestant.name} | | | | | not measured: {error} | |", flush=True)


if __name__ == "__main__":
    main()
