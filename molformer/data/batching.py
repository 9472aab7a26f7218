"""EpochBatches: batch sampler.

Batches are determined by seed and epoch, so that resumed and distributed training is reproducible. A batch has a fixed
number of structures, or as many as a limit of atoms or edges allows, which bounds the memory of large molecules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from molformer.errors import ConfigError

_TRIALS = 16  # epochs from which the number of batches under a limit is taken


@dataclass(eq=False)
class EpochBatches(Sampler[list[Any]]):
    """Lists of indices, in order or, in training, shuffled for each epoch.

    Every epoch has the same number of batches, as trainers require; Lightning calls `set_epoch`. The sampler
    goes into a `DataLoader` with `batch_size=None`.

    Raises:
        ConfigError: a structure exceeds the limit, or there are more processes than structures.

    Example:
        >>> list(EpochBatches(5, batch_size=2))
        [[0, 1], [2, 3], [4]]
        >>> list(EpochBatches(4, batch_size=9, costs=np.array([3, 4, 2, 5]), limit=7))
        [[0, 1], [2, 3]]
    """

    size: int  # number of structures
    batch_size: int  # structures per batch, over all processes; the maximum if there is a limit
    training: bool = False  # shuffle, and drop the last, smaller batch
    seed: int = 0  # of the shuffling
    costs: np.ndarray | None = None  # atoms or edges of each structure (size,), or None for no limit
    limit: int = 0  # largest sum of costs of a batch of one process
    epoch_size: int = 0  # structures per epoch, 0 for all; passes over all structures are divided into epochs
    rank: int = 0  # of this process
    world: int = 1  # number of processes
    with_epoch: bool = False  # return pairs (epoch, index) instead of indices

    def __post_init__(self) -> None:
        costs, size, world, limit, batch_size = self.costs, self.size, self.world, self.limit, self.batch_size
        if costs is not None and len(costs) and costs.max() > limit:
            raise ConfigError(f"the largest structure costs {int(costs.max())}, beyond the limit of {limit} a batch")
        if self.training and costs is None and batch_size < world:
            raise ConfigError(f"batch_size is {batch_size} for {world} processes: use at least one structure for each")
        if size < world:
            raise ConfigError(f"{size} structures cannot be shared by {world} processes: use fewer")
        self.batch_size = batch_size if self.training else -(-batch_size // world)
        self.epoch_size = (self.epoch_size or size) if self.training else size
        self.epoch = 0
        self._batches = self._number_of_batches()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the following passes."""
        self.epoch = epoch if self.training else 0

    def __len__(self) -> int:
        """Number of batches of this process in an epoch."""
        return self._batches // self.world if self.training and self.costs is not None else self._batches

    def __iter__(self) -> Iterator[list[Any]]:
        # A generator, since Lightning sets the epoch after iter() and before the first batch.
        batches = self._of_epoch(self.epoch)
        for batch in self._share(batches):
            yield [(self.epoch, place) for place in batch] if self.with_epoch else batch

    def _share(self, batches: list[list[int]]) -> list[list[int]]:
        """Training batches of this process: a part of every batch, or complete batches if there is a limit."""
        if not self.training:
            return batches
        if self.costs is None:
            return [batch[self.rank :: self.world] for batch in batches]
        return batches[self.rank :: self.world][: len(self)]

    def _number_of_batches(self) -> int:
        if self.costs is None and self.training and self.epoch_size >= self.batch_size:
            return self.epoch_size // self.batch_size
        if self.costs is None:
            return -(-len(self._order(0)) // self.batch_size)
        epochs = range(_TRIALS if self.training else 1)
        number = max(len(self._packed(self._order(epoch))) for epoch in epochs)
        if self.training and number < self.world:
            raise ConfigError(f"{number} batches an epoch for {self.world} processes: lower the limit of a batch")
        return number

    def _order(self, epoch: int) -> np.ndarray:
        """Indices of an epoch: a section of successive shuffled passes over all structures."""
        if not self.training:
            return np.arange(self.rank, self.size, self.world)
        start, end = epoch * self.epoch_size, (epoch + 1) * self.epoch_size
        passes = range(start // self.size, -(-end // self.size))
        orders = [np.random.default_rng([self.seed, number]).permutation(self.size) for number in passes]
        return np.concatenate(orders)[start - passes[0] * self.size :][: self.epoch_size]

    def _of_epoch(self, epoch: int) -> list[list[int]]:
        order = self._order(epoch)
        if self.costs is None:
            return [order[i * self.batch_size : (i + 1) * self.batch_size].tolist() for i in range(self._batches)]
        batches = self._packed(order)
        return self._exactly(batches) if self.training else batches

    def _exactly(self, batches: list[list[int]]) -> list[list[int]]:
        """Exactly `len` batches: the largest are halved, or, rarely, the smallest dropped."""
        while len(batches) < self._batches:
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            whole = batches[largest]
            if len(whole) < 2:
                break
            batches[largest : largest + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        surplus = len(batches) - self._batches
        left_out = set(sorted(range(len(batches)), key=lambda index: len(batches[index]))[: max(0, surplus)])
        return [batch for index, batch in enumerate(batches) if index not in left_out]

    def _packed(self, order: np.ndarray) -> list[list[int]]:
        assert self.costs is not None
        batches: list[list[int]] = []
        total = 0
        for index, cost in zip(order.tolist(), self.costs[order].tolist(), strict=True):
            if not batches or total + cost > self.limit or len(batches[-1]) == self.batch_size:
                batches.append([])
                total = 0
            batches[-1].append(index)
            total += cost
        return batches
