"""The machine: what it is, what it reaches, and programs that measure something in a process of their own."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers import protocol
from benchmarks.peers.protocol import Clock

ROOT = Path(__file__).parents[1]
"""Of the checkout; programs are run from here."""

MATRIX = 2048
COPIED = 1 << 28  # bytes, larger than any cache


@dataclass(frozen=True)
class Reach:
    """What a machine reaches in the two things that every layer is made of.

    Args:
        flops: operations a second in a product of two large float32 matrices.
        bandwidth: bytes a second that a large copy reads and writes.
    """

    flops: float
    bandwidth: float

    def __str__(self) -> str:
        return f"float32 product {self.flops / 1e9:.0f} GFLOP/s, copy {self.bandwidth / 1e9:.1f} GB/s"


class ProgramFailed(Exception):
    """A program that was run for a measurement ended with an error; the message is its last line."""


def reach(threads: int, clock: Clock = "wall", repeats: int = 5) -> Reach:
    """The best of several tries, in a process of its own."""
    return Reach(**run([sys.executable, "-m", "benchmarks.machine", str(threads), clock, str(repeats)]))


def best(*found: Reach) -> Reach:
    """What was reached at best."""
    return Reach(max(one.flops for one in found), max(one.bandwidth for one in found))


def reach_here(threads: int, clock: Clock, repeats: int) -> Reach:
    """The same, in this process."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    now = protocol.clock(clock)
    products, copies = [], []
    for _ in range(repeats + 1):
        start = now()
        a @ b
        middle = now()
        target.copy_(source)
        products.append(middle - start)
        copies.append(now() - middle)
    return Reach(2 * MATRIX**3 / min(products), 2 * COPIED / min(copies))


def run(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    timeout: float | None = None,
    shown: bool = False,
) -> Any:
    """What a program prints as JSON in its last line; `shown` lets its progress on standard error be seen.

    Raises:
        ProgramFailed: it ends with an error, takes longer than `timeout` seconds or prints something else.
    """
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"took more than {timeout:.0f} s") from None
    except OSError as error:
        raise ProgramFailed(str(error)) from None
    lines = ((done.stderr if done.returncode else done.stdout) or "").strip().splitlines()
    if done.returncode < 0:
        raise ProgramFailed(
            f"ended by signal {-done.returncode}" + (": out of memory?" if done.returncode == -9 else "")
        )
    if done.returncode or not lines:
        raise ProgramFailed(lines[-1] if lines else f"ended with status {done.returncode}")
    try:
        return json.loads(lines[-1])
    except ValueError:
        raise ProgramFailed(f"printed no JSON but {lines[-1]!r}") from None


def describe(threads: int, clock: Clock = "wall") -> str:
    """The machine, the versions and the command, as lines to stand above a table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    busy = f"; other work is going on (load {load:.1f}), which disturbs the times" if load > 0.5 else ""
    timed = "1 thread, the processor's time" if clock == "cpu" else f"{threads} threads"
    versions = [f"Python {platform.python_version()}", *(_version(name) for name in ("torch", "molformer", "rdkit"))]
    command = [os.path.basename(sys.executable), "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    return "\n".join(
        [
            f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}{busy}",
            f"{', '.join(versions)}{_commit()}; {timed}",
            shlex.join(command),
        ]
    )


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} of unknown version"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f" ({done.stdout.strip()})" if done.returncode == 0 else ""


if __name__ == "__main__":
    print(json.dumps(asdict(reach_here(int(sys.argv[1]), "cpu" if sys.argv[2] == "cpu" else "wall", int(sys.argv[3])))))
