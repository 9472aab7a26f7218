"""PointCloudDataModule: training, validation and test batches of a store of point clouds.

Random choices for a cloud (points, augmentation) depend only on seed, epoch and index in the store, so that resumed
training is reproducible.
Letters: p points of a cloud.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from molformer.data.augmentation import CloudOptions
from molformer.data.datamodule import StoreDataModule, StoreDataset
from molformer.data.sampling import farthest_point_sampling, normalise, random_subsample
from molformer.data.splits import SplitMethod, SplitPolicy
from molformer.data.store import StructureStore
from molformer.graph import GraphBatch
from molformer.targets import Label

__all__ = ["CloudOptions", "PointCloudDataModule"]


class PointCloudDataset(StoreDataset):
    """Point clouds of a store, indexed by batch; see `StoreDataset`. Sampling, normalisation and, if there is one,
    augmentation are those of the options.
    """

    def __init__(
        self, store: StructureStore, indices: np.ndarray, targets: Sequence[Label], options: CloudOptions, seed: int
    ) -> None:
        super().__init__(store, indices, targets, seed)
        self.options = options

    def __getitem__(self, chosen: Sequence[tuple[int, int]]) -> GraphBatch:
        """Batch of clouds, given by pairs of epoch and position in this part."""
        indices = self.indices[[place for _, place in chosen]]
        rows, pos = [], []
        for (epoch, _), index in zip(chosen, indices.tolist(), strict=True):
            selected, moved = self._cloud(index, np.random.default_rng([self.seed, epoch, index]))
            rows.append(selected)
            pos.append(moved)
        return self.batch(indices, np.concatenate(rows), np.concatenate(pos), [len(selected) for selected in rows])

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


class PointCloudDataModule(StoreDataModule):
    """Training, validation and test batches of a store of clouds.

    Args:
        store: a `StructureStore` or its path.
        target: name of the label to predict; if it is a class of clouds, the split is stratified by it.
        options: preprocessing; the augmentation is applied to the training part only.
        split: fractions of the clouds in training, validation and test part, or the policy of the split.
        batch_size: clouds per batch, over all processes.
        epoch_size: clouds of an epoch, 0 for the whole training part.
        seed: of the split, shuffling, sampling and augmentation.
        workers: number of data-loading processes; 0 for none.

    Raises:
        StoreError: the store is missing or lacks the target.
        ConfigError: the split is invalid.
    """

    def __init__(
        self,
        store: StructureStore | str,
        target: str = "class",
        options: CloudOptions | None = None,
        split: Sequence[float] | SplitPolicy = (0.8, 0.1, 0.1),
        batch_size: int = 32,
        epoch_size: int = 0,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        store = store if isinstance(store, StructureStore) else StructureStore(store)
        if not isinstance(split, SplitPolicy):
            stratified = store.label(target).is_class and not store.label(target).per_node
            method: SplitMethod = "stratified" if stratified else "random"
            split = SplitPolicy(method, tuple(split), seed, target if stratified else "")
        super().__init__(store, [target], split, batch_size, epoch_size, seed, workers)
        self.options = options or CloudOptions()

    def dataset(self, indices: np.ndarray, training: bool) -> PointCloudDataset:
        """Dataset indexed by lists of (epoch, position in `indices`)."""
        options = self.options if training else replace(self.options, augmentation=None)
        return PointCloudDataset(self.store, indices, self.targets, options, self.seed)

    def draws(self, training: bool) -> bool:
        """Points are drawn in evaluation too."""
        return True
