"""Inference on several devices: one process for each, which computes every n-th batch; results keep the input order.

Processes rather than threads, since the throughput of a small model is limited by the Python interpreter.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import torch

from molformer.errors import ConfigError, ModelError
from molformer.inference.batches import BatchRunner, Job
from molformer.models.forward import Output
from molformer.models.property import check_device, load_model
from molformer.structure import Structure
from molformer.targets import Label

AHEAD = 2  # largest number of batches assigned to a device: one in progress and one queued

_work: BatchRunner | None = None  # of this process, where it is one of a device


def device_names(device: str, count: int) -> tuple[str, ...]:
    """Names of some devices of a kind.

    Raises:
        ConfigError: there are fewer devices.
    """
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    there = torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1
    if not 1 <= count <= there:
        raise ConfigError(f"devices is {count} and this machine has {there} of '{device}': use 1 to {there}")
    return tuple(f"cuda:{index}" for index in range(count)) if device == "cuda" else ("cpu",) * count


class Devices(AbstractContextManager["Devices"]):
    """Context manager of worker processes, one for each device."""

    def __init__(self, folders: Sequence[Path], names: Sequence[str], batch_size: int, memory: float) -> None:
        context = get_context("spawn")  # a forked process cannot use CUDA
        threads = max(1, (os.cpu_count() or 1) // len(names))
        self._pools = [
            ProcessPoolExecutor(1, context, _start, (tuple(folders), name, batch_size, memory, threads))
            for name in names
        ]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for pool in self._pools:
            if kind is not None:  # what it computes is not wanted, and may never end
                for process in list((pool._processes or {}).values()):
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def computed(
        self, batches: Iterable[list[Job]], targets: Sequence[Label]
    ) -> Iterator[tuple[list[Job], Iterator[list[Output]]]]:
        """Batches with their outputs, in order, as `BatchRunner.computed` gives them.

        Raises:
            ModelError: a process ended.
        """
        pending: deque[tuple[list[Job], Future[list[list[Output]]]]] = deque()
        try:
            for batch, pool in zip(batches, cycle(self._pools), strict=False):
                structures = [structure for job in batch for structure in job.structures]
                edges = [edges for job in batch for edges in job.edges]
                pending.append((batch, pool.submit(_outputs, structures, edges, tuple(targets))))
                if len(pending) == AHEAD * len(self._pools):
                    first, done = pending.popleft()
                    yield first, iter(done.result())
            for left, done in pending:
                yield left, iter(done.result())
        except BrokenProcessPool:
            raise ModelError("the worker process of a device ended: try a lower memory limit of a batch") from None


def _start(folders: Sequence[Path], name: str, batch_size: int, memory: float, threads: int) -> None:
    global _work
    torch.set_num_threads(threads)
    _work = BatchRunner([load_model(folder, "cpu").to(name).eval() for folder in folders], batch_size, memory)


def _outputs(structures: Sequence[Structure], edges: Sequence[int], targets: Sequence[Label]) -> list[list[Output]]:
    assert _work is not None
    return list(_work.outputs_of(structures, edges, targets))
