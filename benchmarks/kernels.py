"""What each kernel of the attention gives: `python -m benchmarks.kernels [--quick]`.

The same network, weights and molecules (18 atoms, an edge for every ordered pair) with each kernel in turn: time and
peak memory of a training step at the SE(3)-Transformer's size for QM9, of one on forces, and of a prediction.
"""

import statistics

from benchmarks import machine, report
from benchmarks.own import KERNELS
from benchmarks.peers.protocol import Request
from benchmarks.speed import COMMON, PEERS, Row, in_turn

FORCES = {"lmax": 2, "channels": 32, "num_heads": 4, "num_layers": 3}
"""About the size of `configs/md17.yaml`."""

HEADER = ["kernel", "network", "molecules", "step", "time", "of the reference", "peak GB", "above imports"]


def rows(threads: int, clock: str, quick: bool) -> list[list[Row]]:
    """For each network and step the rows of all kernels."""
    cases = [
        ("lmax 3, 32 channels, 7 layers", "training", 32, {"config": COMMON}),
        ("the same, full kernel", "training", 8 if quick else 32, {"config": {**COMMON, "convolution": "full"}}),
        ("lmax 2, 32 channels, 3 layers", "forces", 16, {"config": FORCES}),
        ("small", "forward", 32, {"preset": "small"}),
    ]
    return [
        [
            Row(name, Request(mode, count, threads=threads, clock=clock, options={**options, "kernel": kernel}))  # type: ignore[arg-type]
            for kernel in KERNELS
        ]
        for name, mode, count, options in cases
    ]


def main() -> None:
    """Print the table."""
    arguments = report.arguments(__doc__)
    print(machine.describe(arguments.threads, arguments.clock), flush=True)
    cells = []
    for group in rows(arguments.threads, arguments.clock, arguments.quick):
        found = in_turn(group, PEERS, 1 if arguments.quick else 3)
        reference = None
        for row, measured in zip(group, found, strict=True):
            start = [row.request.options["kernel"], row.name, str(row.request.molecules), row.request.mode]
            if isinstance(measured, str):
                cells.append([*start, measured, "", "", ""])
                continue
            time = statistics.median(measured.seconds)
            reference = reference or time
            share = f"{100 * time / reference:.0f} %"
            cells.append([*start, report.duration(time), share, f"{measured.peak:.2f}", f"{measured.above:.2f}"])
    print(report.table(HEADER, cells))


if __name__ == "__main__":
    main()
