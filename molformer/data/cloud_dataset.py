"""Dataset of point clouds, with subsampling, normalisation and augmentation.

Random choices for a cloud (points, augmentation) depend only on seed, epoch and index in the store, so that resumed
training is reproducible.
Letters: p points of a cloud.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from molformer.data.augmentation import PointAugmentation
from molformer.data.sampling import farthest_point_sampling, normalise, random_subsample
from molformer.data.store import StructureStore
from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.targets import Label

Sampling = Literal["random", "farthest", "all"]


@dataclass(frozen=True)
class CloudOptions:
    """Preprocessing of point clouds.

    Args:
        points: largest number of points of a cloud.
        sampling: `random`; `farthest`, which covers a shape more uniformly; `all` ignores `points`.
        normalise: center each cloud and scale it to the unit sphere.
        augmentation: applied to the training part after normalisation; None for none.

    Raises:
        ConfigError: a value is out of its range.
    """

    points: int = 1024
    sampling: Sampling = "random"
    normalise: bool = True
    augmentation: PointAugmentation | None = None

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling):
            raise ConfigError(f"sampling '{self.sampling}' is not one of {', '.join(get_args(Sampling))}")
        if self.points < 1:
            raise ConfigError(f"{self.points} points of a cloud: use at least 1")


class PointCloudDataset(Dataset[GraphBatch]):
    """Point clouds of a store, indexed by batch.

    Args:
        store: the clouds.
        indices: which of them, in order.
        targets: labels to load.
        options: points and normalisation; the augmentation is applied if there is one.
        seed: of sampling and augmentation.
    """

    def __init__(
        self, store: StructureStore, indices: np.ndarray, targets: Sequence[Label], options: CloudOptions, seed: int
    ) -> None:
        self.store = store
        self.indices = indices
        self.targets = tuple(targets)
        self.options = options
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Sequence[tuple[int, int]]) -> GraphBatch:
        """Batch of clouds, given by pairs of epoch and position in this part."""
        indices = self.indices[[place for _, place in chosen]]
        rows, pos = [], []
        for (epoch, _), index in zip(chosen, indices.tolist(), strict=True):
            selected, moved = self._cloud(index, np.random.default_rng([self.seed, epoch, index]))
            rows.append(selected)
            pos.append(moved)
        sizes = [len(selected) for selected in rows]
        row = np.concatenate(rows)
        labels = {
            target.name: torch.from_numpy(self.store.column(target.name)[row if target.per_node else indices])
            for target in self.targets
        }
        features = self.store.column("features")[row] if "features" in self.store.columns else None
        return GraphBatch(
            numbers=torch.from_numpy(self.store.column("numbers")[row].astype(np.int64)),
            pos=torch.from_numpy(np.concatenate(pos).astype(np.float32)),
            ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            charge=torch.from_numpy(self.store.column("charge")[indices].astype(np.float32)),
            labels=labels,
            features=None if features is None else torch.from_numpy(features.astype(np.float32)),
        )

    def _cloud(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the store that are the points of a cloud (p,), and their positions (p, 3)."""
        options = self.options
        rows = self.store.rows(index)
        pos = self.store.column("pos")[rows].astype(np.float64)
        selected = np.arange(len(pos))
        if options.sampling != "all":
            choose = random_subsample if options.sampling == "random" else farthest_point_sampling
            selected = choose(pos, options.points, seed=int(rng.integers(2**63)))
        pos = normalise(pos[selected]) if options.normalise else pos[selected]
        if options.augmentation is not None:
            stay = options.augmentation.choose(len(selected), rng)
            selected, pos = selected[stay], options.augmentation.move(pos[stay], rng)
        return rows.start + selected, pos
