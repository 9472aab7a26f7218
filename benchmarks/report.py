"""How the scripts look: their options, and a table of text."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need be: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join([line(header), "-" * len(line(["-" * width for width in widths])), *map(line, rows)])


def duration(value: float) -> str:
    """A duration with three digits."""
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def arguments(doc: str, *flags: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Options that all scripts take, and those of one of them."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions")
    parser.add_argument("--threads", type=int, help="of torch; all cores if not given")
    parser.add_argument(
        "--cpu-time", action="store_true", help="the processor's time in one thread, for a machine that others use too"
    )
    for name, options in flags:
        parser.add_argument(name, **options)
    found = parser.parse_args()
    found.threads = 1 if found.cpu_time else found.threads or os.cpu_count() or 1
    found.clock = "cpu" if found.cpu_time else "wall"
    return found


def progress(text: str) -> None:
    """Say on a terminal what is being measured, on a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
