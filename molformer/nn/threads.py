"""Python threads that each run whole pieces of work on one core.

torch cuts every single operation among the cores and waits for all of them at its end; with operations of some tens of
microseconds, as in a chunk of edges, the waiting costs more than the work, most of all on a machine that does other
things too. Here each thread runs its own operations from beginning to end.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import NamedTuple

import torch


class Mode(NamedTuple):
    """What torch keeps for each thread apart, of one kind of device."""

    device: str
    grad: bool
    inference: bool
    autocast: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: str) -> "Mode":
        """The mode of this thread."""
        return cls(
            device,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
        )

    def precision(self) -> torch.autocast:
        """Autocast as it was; what it casts is not kept, so that no gradient is lost in what it keeps."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.autocast, cache_enabled=False)


def in_threads(work: Callable[[int], None], threads: int) -> None:
    """Call work(0) … work(threads - 1), each in a thread of its own, in this thread's mode.

    Args:
        work: what to do, given the index of the thread.
        threads: at most `torch.get_num_threads()`.
    """
    if threads == 1:
        return work(0)
    mode = Mode.now("cpu")

    def in_mode(index: int) -> None:
        with torch.inference_mode(mode.inference), torch.set_grad_enabled(mode.grad), mode.precision():
            work(index)

    pool = _pool(torch.get_num_threads())
    for done in [pool.submit(in_mode, index) for index in range(threads)]:
        done.result()
    return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    everyone = Barrier(threads + 1)

    def on_one_core() -> None:
        torch.set_num_threads(1)
        everyone.wait()

    pool = ThreadPoolExecutor(threads, "molformer")
    for _ in range(threads):
        pool.submit(on_one_core)
    everyone.wait()
    torch.set_num_threads(threads)  # what threads that are yet to come start with; it was changed above
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
