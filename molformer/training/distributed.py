"""Collective operations of distributed runs; no-ops in a single process."""

from typing import TypeVar

from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, distributed

T = TypeVar("T")


def world() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(items: list[T]) -> list[T]:
    """The items of all processes, those of rank 0 first, in every process."""
    _, size = world()
    if size == 1:
        return items
    parts: list[list[T]] = [[] for _ in range(size)]
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    if world()[1] == 1:
        return values.detach()
    total = values.detach().clone()
    distributed.all_reduce(total, op=distributed.ReduceOp.SUM)
    return total


def writes_files() -> bool:
    """Whether this process writes the run folder (rank 0); available before the process group is initialised."""
    return not getattr(rank_zero_only, "rank", 0)
