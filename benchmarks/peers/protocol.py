"""How one measurement is asked for and answered, the same for this package and for every peer.

A program takes a request as JSON on its command line, measures in its own process and prints one line of JSON. It
runs in the peer's environment, so this module needs nothing but torch and numpy.
Letters: B molecules, n atoms of each.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Mode = Literal["forward", "training", "forces"]
"""`forward` without gradients; `training`: a loss of one scalar a molecule and the gradients of all weights; `forces`:
the same for energies and forces, which are minus the gradient of the energies."""

Clock = Literal["wall", "cpu"]
"""`cpu` is the processor's time: what the wall clock would show on a machine that nobody else uses, if there is one
thread (several would count their waiting for each other)."""

SPACING = 1.2
"""Å between the atoms of a molecule, which stand on a grid of 3 × 3 layers: up to 18 all lie within 4 Å."""


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Args:
        mode: what is timed.
        molecules: B.
        atoms: n.
        threads: of torch.
        repeats: most repetitions that are timed.
        budget: seconds after which no further repetition is started.
        clock: by which it is timed.
        options: what else a program understands.
    """

    mode: Mode = "forward"
    molecules: int = 32
    atoms: int = 18
    threads: int = 1
    repeats: int = 5
    budget: float = 5.0
    clock: Clock = "wall"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def edges(self) -> int:
        """All ordered pairs of atoms of one molecule, for all molecules."""
        return self.molecules * self.atoms * (self.atoms - 1)


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Args:
        seconds: of each repetition.
        parameters: trainable numbers of the model.
        peak: largest resident memory of the process, GB.
        above: the same less what was resident once everything was imported, GB.
        version: of the package.
        note: what a reader should know of it.
    """

    seconds: list[float]
    parameters: int
    peak: float
    above: float
    version: str
    note: str = ""


@dataclass(frozen=True)
class Work:
    """A model that is ready to be measured: a step, and the number of its parameters."""

    step: Callable[[], None]
    parameters: int
    version: str
    note: str = ""


def molecules(request: Request) -> tuple[Any, Any]:
    """The inputs that every package gets.

    Returns:
        Atomic numbers (B, n) among H, C, N, O and F, and positions (B, n, 3) in Å, float32, as numpy arrays.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    shape = (request.molecules, request.atoms)
    numbers = generator.choice([1, 6, 7, 8, 9], size=shape)
    index = np.arange(request.atoms)
    grid = SPACING * np.stack([index % 3, index // 3 % 3, index // 9], axis=-1)
    return numbers, (grid + 0.1 * generator.standard_normal((*shape, 3))).astype(np.float32)


def resident(largest: bool = False) -> float:
    """Resident memory of this process, GB; or the largest it has had.

    The `ru_maxrss` of a process starts from that of its parent, so Linux is asked for what is this process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM" if largest else "VmRSS"].split()[0]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def clock(name: Clock) -> Callable[[], float]:
    """Seconds of a clock."""
    return time.process_time if name == "cpu" else time.perf_counter


def measure(request: Request, build: Callable[[Request], Work]) -> Measurement:
    """Time the step of a model: once to warm up, then until the repetitions or the seconds are used up."""
    import torch

    torch.set_num_threads(request.threads)
    torch.manual_seed(0)
    before = resident()
    work = build(request)
    work.step()
    now = clock(request.clock)
    seconds: list[float] = []
    while not seconds or (len(seconds) < request.repeats and sum(seconds) < request.budget):
        start = now()
        work.step()
        seconds.append(now() - start)
    peak = max(before, resident(largest=True))  # the kernel counts in batches: the largest may lag behind
    return Measurement(seconds, work.parameters, peak, peak - before, work.version, work.note)


def answer(build: Callable[[Request], Work]) -> None:
    """What a program does: read the request, measure, print the answer as the last line."""
    request = Request(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(measure(request, build))))


def training_step(values: Callable[[], Any], module: Any) -> Callable[[], None]:
    """A step of training on one scalar a molecule, without the optimizer.

    Args:
        values: computes (B,) or (B, 1).
        module: whose weights the gradients are for.
    """

    def step() -> None:
        module.zero_grad(set_to_none=True)
        (values() - 1).square().mean().backward()

    return step


def forward_step(values: Callable[[], Any]) -> Callable[[], None]:
    """A step that computes values without gradients."""
    import torch

    def step() -> None:
        with torch.no_grad():
            values()

    return step
