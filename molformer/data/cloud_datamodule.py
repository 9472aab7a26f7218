"""PointCloudDataModule: training, validation and test batches of a store of point clouds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from molformer.data.batching import EpochBatches
from molformer.data.cloud_dataset import CloudOptions, PointCloudDataset
from molformer.data.datamodule import StoreDataModule
from molformer.data.splits import SplitMethod, SplitPolicy
from molformer.data.store import StructureStore

__all__ = ["CloudOptions", "PointCloudDataModule"]


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

    def batches(self, indices: np.ndarray, training: bool, rank: int = 0, world: int = 1) -> EpochBatches:
        """Batch sampler of positions in `indices`."""
        return EpochBatches(
            len(indices),
            self.batch_size,
            training,
            self.seed,
            epoch_size=self.epoch_size,
            rank=rank,
            world=world,
            with_epoch=True,
        )
