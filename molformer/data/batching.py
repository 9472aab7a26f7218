"""Batches bounded by atoms or edges, so that a few large molecules do not run out of memory."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from molformer.errors import ConfigError


class BoundedBatchSampler(Sampler[list[int]]):
    """Batches of as many structures as fit under a limit, in the order given or in a random one.

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
        self._length = sum(1 for _ in self._pack(np.arange(len(costs))))

    def __len__(self) -> int:
        """Batches in the order of the store; a random order may need a few more or less."""
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self.costs), generator=self.generator).numpy() if self.shuffle else None
        return self._pack(np.arange(len(self.costs)) if order is None else order)

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
