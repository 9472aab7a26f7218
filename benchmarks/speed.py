"""Speed and memory of models and of other packages: `python -m benchmarks.speed [--quick] [--peers FOLDER]`.

Every figure comes from a process of its own, after one step to warm up. Rounds go through all rows in turn, so that
all packages see the same state of the machine, and the median over all rounds is printed. The molecules have 18 atoms
and an edge for every ordered pair. `floor/time` is the time that the machine would need (see `benchmarks.floor`) over
the time that was needed. Peers are installed by `benchmarks/peers/install.sh`.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import machine, report
from benchmarks.floor import floor_seconds
from benchmarks.own import config_of
from benchmarks.peers.protocol import Clock, Measurement, Mode, Request

PEERS = Path("~/.cache/molformer/peers")
COMMON = {"lmax": 3, "channels": 32, "num_heads": 8, "num_layers": 7, "cutoff": 5.0}
"""The SE(3)-Transformer's size for QM9, at which packages are compared."""

NARROW = {**COMMON, "message_channels": 16}
"""The same with keys and values of half the channels, as by `div` of Fuchs et al. and `channels_div` of NVIDIA. Their
kernels take all channels, these half of them."""

MODES: tuple[Mode, ...] = ("forward", "training", "forces")
HEADER = [
    *("model", "molecules", "step", "time", "molecules/s", "edges/s"),
    *("floor/time", "peak GB", "above imports", "parameters"),
]
TIMEOUT = 600.0  # seconds for one process


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: of the model.
        request: what is measured; for this package its options hold the configuration.
        peer: the package that is measured; empty for this one.
    """

    name: str
    request: Request
    peer: str = ""


def own_rows(threads: int, clock: Clock, quick: bool) -> tuple[list[Row], list[Row]]:
    """Rows of this package: at the common size, and of the presets."""
    options = {
        "separable SE(3)": {**COMMON, "convolution": "separable", "group": "SE(3)"},
        "separable E(3)": {**COMMON, "convolution": "separable", "group": "E(3)"},
        "full SE(3)": {**COMMON, "convolution": "full", "group": "SE(3)"},
        "separable SE(3), narrow": {**NARROW, "convolution": "separable", "group": "SE(3)"},
        "full SE(3), narrow": {**NARROW, "convolution": "full", "group": "SE(3)"},
    }
    common = [
        Row(name, Request(mode, 32, threads=threads, clock=clock, options={"config": config}))
        for name, config in options.items()
        for mode in MODES
        if not (quick and name.startswith("full") and mode == "forces")
    ]
    sizes = {"tiny": (1, 32, 256), "small": (1, 32, 256), "base": (1, 32), "paper": (32,)}
    presets = [
        Row(name, Request(mode, count, threads=threads, clock=clock, options={"preset": name}))
        for name, counts in sizes.items()
        for count in counts
        for mode in MODES
        if not quick or (count == 32 and name != "base" and (name, mode) != ("paper", "forces"))
    ]
    return common, presets


def peer_rows(threads: int, clock: Clock, quick: bool) -> list[Row]:
    """Rows of other packages. Those that take many seconds a molecule get one, as their row says."""

    def rows(name: str, peer: str, count: int, modes: Sequence[Mode], **options: object) -> list[Row]:
        return [Row(name, Request(mode, count, threads=threads, clock=clock, options=options), peer) for mode in modes]

    some: tuple[Mode, ...] = ("forward", "training")
    return [
        *rows("se3-transformer-pytorch", "se3-transformer-pytorch", 1, some),
        *rows("equiformer-pytorch", "equiformer-pytorch", 32, some),
        *rows("TensorNet", "torchmd-net", 32, some if quick else MODES),
        *([] if quick else rows("TensorNet, plain torch", "torchmd-net", 32, some, warp=False)),
        *rows("MACE", "mace-torch", 32, some if quick else MODES),
    ]


def measure(row: Row, peers: Path) -> Measurement:
    """Measure a row in a new process.

    Raises:
        ProgramFailed: with the reason.
    """
    command = [*program(row.peer, peers), json.dumps(asdict(row.request))]
    threads = str(row.request.threads)
    return Measurement(**machine.run(command, {"OMP_NUM_THREADS": threads}, TIMEOUT))


def program(peer: str, peers: Path) -> list[str]:
    """The command of a peer's program in its environment; of this package's own if `peer` is empty.

    Raises:
        ProgramFailed: there is no such environment.
    """
    python, module = Path(sys.executable), "own"
    if peer:
        python = peers.expanduser() / peer / "bin" / "python"
        module = f"peers.{peer.replace('-', '_')}"
        if not python.exists():
            raise machine.ProgramFailed(f"no environment at {peers / peer}: see benchmarks/peers/README.md")
    return [str(python), "-W", "ignore", "-m", f"benchmarks.{module}"]


def in_turn(rows: Sequence[Row], peers: Path, rounds: int) -> list[Measurement | str]:
    """Measure all rows, `rounds` times in turn; what fails is not tried again and has its reason instead."""
    found: list[Measurement | str | None] = [None] * len(rows)
    for number in range(rounds):
        for index, row in enumerate(rows):
            before = found[index]
            if isinstance(before, str):
                continue
            report.progress(f"round {number + 1} of {rounds}: {row.name}, {row.request.mode}")
            try:
                now = measure(row, peers)
            except machine.ProgramFailed as error:
                found[index] = f"not measured: {error}"
                continue
            found[index] = now if before is None else together(before, now)
    report.progress("")
    return [measurement for measurement in found if measurement is not None]


def together(first: Measurement, second: Measurement) -> Measurement:
    """Two measurements of the same thing as one."""
    return replace(
        second,
        seconds=first.seconds + second.seconds,
        peak=max(first.peak, second.peak),
        above=max(first.above, second.above),
    )


def cells(row: Row, found: Measurement | str, reach: machine.Reach) -> list[str]:
    """A row as text; the share of the floor only for this package's own networks, whose formulas are known."""
    request = row.request
    start = [row.name, str(request.molecules), request.mode]
    if isinstance(found, str):
        return [*start, found, *[""] * (len(HEADER) - 4)]
    time = statistics.median(found.seconds)
    share = ""
    config = None if row.peer else config_of(request.options)
    if config is not None and config.architecture == "pre-norm":
        nodes = request.molecules * request.atoms
        floor = floor_seconds(config, nodes, request.edges, found.parameters, request.mode, reach)
        share = f"{100 * floor / time:.0f} %"
    return [
        *start,
        report.duration(time),
        f"{request.molecules / time:.3g}",
        f"{request.edges / time:,.0f}",
        share,
        f"{found.peak:.2f}",
        f"{found.above:.2f}",
        f"{found.parameters:,}",
    ]


def main() -> None:
    """Print the tables."""
    arguments = report.arguments(
        __doc__,
        ("--peers", {"type": Path, "default": PEERS, "help": "folder of the peers' environments"}),
        ("--rounds", {"type": int, "help": "how often all rows are measured; 3 if not given, 1 with --quick"}),
        ("--only", {"choices": ["common", "presets", "peers"], "nargs": "+", "help": "some of the rows"}),
        ("--json", {"type": Path, "help": "write all figures to this file too"}),
    )
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    common, presets = own_rows(arguments.threads, arguments.clock, arguments.quick)
    parts = {
        "common": common,
        "peers": peer_rows(arguments.threads, arguments.clock, arguments.quick),
        "presets": presets,
    }
    wanted = arguments.only or list(parts)
    print(machine.describe(arguments.threads, arguments.clock), flush=True)
    before = machine.reach(arguments.threads, arguments.clock)
    # Peers stand among the rows that they are compared with, the presets by themselves, once.
    compared = [row for part in ("common", "peers") if part in wanted for row in parts[part]]
    found = list(zip(compared, in_turn(compared, arguments.peers, rounds), strict=True))
    alone = parts["presets"] if "presets" in wanted else []
    found += zip(alone, in_turn(alone, arguments.peers, 1), strict=True)
    reach = machine.best(before, machine.reach(arguments.threads, arguments.clock))
    print(f"This machine reaches: {reach}\n")
    print(report.table(HEADER, [cells(row, measurement, reach) for row, measurement in found]))
    if alone and not arguments.quick:
        print("\nbase at 256 molecules is left out: a training step takes more than a minute on few cores")
    if arguments.json:
        values = [
            {**asdict(row), "measured": value if isinstance(value, str) else asdict(value)} for row, value in found
        ]
        arguments.json.write_text(json.dumps({"reach": asdict(reach), "rows": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
