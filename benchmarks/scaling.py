"""Time and memory against edges, degree and channels: `python -m benchmarks.scaling [--quick]`.

Clouds of points with a fixed number of neighbours, one process a figure. The slope is that of log(time) and
log(memory) over the larger half of the sizes, by least squares: small sizes measure what every call costs. It should
be 1 for edges, at most 3 for lmax + 1 and at most 2 for channels. The last table is of whole point clouds.
"""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import machine, report
from benchmarks.peers.protocol import Clock, Measurement, Mode, Request

NEIGHBOURS = 10
MODES: tuple[Mode, ...] = ("forward", "training")
TIMEOUT = 300.0  # seconds for one process


@dataclass(frozen=True)
class Point:
    """One size of a sweep.

    Args:
        size: what is varied, as the slope takes it.
        label: the same for people.
        requests: what is measured of it, by mode.
    """

    size: float
    label: str
    requests: dict[Mode, Request]


def edges(quick: bool, threads: int, clock: Clock) -> list[Point]:
    """10³ to 10⁶ edges through the preset `tiny`; steps of training to 10⁵, which keep more."""
    counts = [1_000, 10_000, 100_000] if quick else [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
    largest = 10_000 if quick else 100_000
    return [
        Point(
            count,
            f"{count:,} edges",
            {
                mode: _request(mode, threads, clock, count // NEIGHBOURS, {"preset": "tiny"})
                for mode in MODES
                if mode == "forward" or count <= largest
            },
        )
        for count in counts
    ]


def degrees(quick: bool, threads: int, clock: Clock) -> list[Point]:
    """Lmax 0 to 6; the slope is against lmax + 1."""
    points, lmaxes = (300, range(4)) if quick else (1_000, range(7))
    return [
        Point(lmax + 1, f"lmax {lmax}", _both(threads, clock, points, _config(lmax=lmax, channels=32)))
        for lmax in lmaxes
    ]


def channels(quick: bool, threads: int, clock: Clock) -> list[Point]:
    """16 to 256 channels."""
    points, widths = (300, (16, 32, 64)) if quick else (500, (16, 32, 64, 128, 256))
    return [
        Point(width, f"{width} channels", _both(threads, clock, points, _config(lmax=2, channels=width)))
        for width in widths
    ]


def clouds(quick: bool, threads: int, clock: Clock) -> list[tuple[str, Request]]:
    """Point clouds as they are used."""
    many = 10_000 if quick else 100_000
    rows = [
        (f"{many:,} points, 16 neighbours, tiny, forward", "forward", {"points": many, "neighbours": 16}, "tiny"),
        (
            "1,024 points, 40 neighbours, small (lmax 2), training",
            "training",
            {"points": 1024, "neighbours": 40},
            "small",
        ),
    ]
    return [
        (name, Request(mode, 1, threads=threads, clock=clock, repeats=2, options={"cloud": cloud, "preset": size}))  # type: ignore[arg-type]
        for name, mode, cloud, size in rows
    ]


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent p of values ~ sizes^p over the larger half of the sizes, at least two.

    Example:
        >>> round(slope([1, 2, 4, 8], [9, 9, 3 * 4**2, 3 * 8**2]), 6)
        2.0
    """
    used = max(2, math.ceil(len(sizes) / 2))
    x, y = [math.log(size) for size in sizes[-used:]], [math.log(value) for value in values[-used:]]
    return statistics.linear_regression(x, y).slope


def sweep(points: Sequence[Point]) -> list[list[str]]:
    """Rows of a table: time and memory for each size, then the slopes."""
    rows, found = [], {mode: [] for mode in MODES}  # type: tuple[list[list[str]], dict[Mode, list[tuple[float, Measurement]]]]
    for point in points:
        cells = [point.label]
        for mode in MODES:
            cell = ["", ""]
            if mode in point.requests:
                report.progress(f"{point.label}, {mode}")
                result = attempt(point.requests[mode])
                if isinstance(result, str):
                    cell = [result, ""]
                else:
                    found[mode].append((point.size, result))
                    cell = [report.duration(statistics.median(result.seconds)), f"{result.above:.3f}"]
            cells += cell
        rows.append(cells)
    report.progress("")
    return [*rows, ["slope", *(text for mode in MODES for text in _slopes(found[mode]))]]


def attempt(request: Request) -> Measurement | str:
    """A measurement in a process of its own, or why there is none."""
    command = [sys.executable, "-m", "benchmarks.own", json.dumps(asdict(request))]
    try:
        return Measurement(**machine.run(command, {"OMP_NUM_THREADS": str(request.threads)}, TIMEOUT))
    except machine.ProgramFailed as error:
        return f"not measured: {error}"


def _slopes(found: Sequence[tuple[float, Measurement]]) -> list[str]:
    if len(found) < 2:
        return ["", ""]
    sizes = [size for size, _ in found]
    times = [statistics.median(result.seconds) for _, result in found]
    memory = [max(result.above, 1e-3) for _, result in found]
    return [f"{slope(sizes, times):.2f}", f"{slope(sizes, memory):.2f}"]


def _both(threads: int, clock: Clock, points: int, options: dict[str, Any]) -> dict[Mode, Request]:
    return {mode: _request(mode, threads, clock, points, options) for mode in MODES}


def _request(mode: Mode, threads: int, clock: Clock, points: int, options: dict[str, Any]) -> Request:
    cloud = {"points": points, "neighbours": NEIGHBOURS}
    return Request(mode, 1, threads=threads, clock=clock, budget=2.0, options={"cloud": cloud, **options})


def _config(**values: Any) -> dict[str, Any]:
    return {"config": {"num_layers": 2, "num_heads": 4, "edge_features": 32, **values}}


def main() -> None:
    """Print the tables."""
    arguments = report.arguments(__doc__)
    print(machine.describe(arguments.threads, arguments.clock), flush=True)
    header = ["forward", "GB above imports", "training", "GB above imports"]
    for name, points in (("edges", edges), ("degree", degrees), ("channels", channels)):
        rows = sweep(points(arguments.quick, arguments.threads, arguments.clock))
        print("\n" + report.table([name, *header], rows), flush=True)
    rows = []
    for name, request in clouds(arguments.quick, arguments.threads, arguments.clock):
        result = attempt(request)
        if isinstance(result, str):
            rows.append([name, result, ""])
        else:
            rows.append([name, report.duration(statistics.median(result.seconds)), f"{result.peak:.2f}"])
    print("\n" + report.table(["clouds", "time", "peak GB in all"], rows))


if __name__ == "__main__":
    main()
