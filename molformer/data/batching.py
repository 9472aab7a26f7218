"""Batches bounded by atoms or edges, so that a few large molecules do not run out of memory."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from molformer.errors import ConfigError

_TRIALS = 16  # random orders from which the number of batches is taken


class BoundedBatchSampler(Sampler[list[int]]):
    """Batches of as many structures as fit under a limit, in the order given or in a random one.

    Every epoch has the same number of batches, which a trainer relies on.

    Args:
        costs: atoms or edges of each structure (n,).
        limit: largest sum of costs of a batch.
        shuffle: draw a new order every epoch.
        generator: of that order.
        most: largest number of structures of a batch, 0 for any.

    Raises:
        ConfigError: a single structure is beyond the limit.

    Example:
        >>> list(BoundedBatchSampler(np.array([3, 4, 2, 5]), limit=7))
        [[0, 1], [2, 3]]
    """

    def __init__(
        self,
        costs: np.ndarray,
        limit: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        most: int = 0,
    ) -> None:
        if len(costs) and costs.max() > limit:
            raise ConfigError(f"the largest structure costs {int(costs.max())}, beyond the limit of {limit} a batch")
        self.costs = costs
        self.limit = limit
        self.shuffle = shuffle
        self.generator = generator
        self.most = most or len(costs)
        orders = [np.arange(len(costs))]
        if shuffle:
            random = np.random.default_rng(0)
            orders = [random.permutation(len(costs)) for _ in range(_TRIALS)]
        self._length = max(sum(1 for _ in self._pack(order)) for order in orders)

    def __len__(self) -> int:
        """Batches of an epoch, the same in all of them."""
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            return self._pack(np.arange(len(self.costs)))
        order = torch.randperm(len(self.costs), generator=self.generator).numpy()
        return iter(self._exactly(list(self._pack(order))))

    def _exactly(self, batches: list[list[int]]) -> list[list[int]]:
        """As many batches as `len` promises: the largest are halved, or, rarely, the smallest left out."""
        while len(batches) < self._length:
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            whole = batches[largest]
            if len(whole) < 2:
                break
            batches[largest : largest + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        surplus = len(batches) - self._length
        left_out = set(sorted(range(len(batches)), key=lambda index: len(batches[index]))[: max(0, surplus)])
        return [batch for index, batch in enumerate(batches) if index not in left_out]

    def _pack(self, order: np.ndarray) -> Iterator[list[int]]:
        batch: list[int] = []
        total = 0
        for index, cost in zip(order.tolist(), self.costs[order].tolist(), strict=True):
            if batch and (total + cost > self.limit or len(batch) == self.most):
                yield batch
                batch, total = [], 0
            batch.append(index)
            total += cost
        if batch:
            yield batch
