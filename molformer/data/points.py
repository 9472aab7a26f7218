"""PointCloudDataModule: from a store of point clouds to batches of graphs for training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from molformer.data.cloud_dataset import CloudOptions, EpochSampler, PointCloudDataset
from molformer.data.graph import GraphBatch
from molformer.data.splits import Split, SplitPolicy, make_split
from molformer.data.statistics import TargetStatistics, target_statistics
from molformer.data.store import StructureStore

__all__ = ["CloudOptions", "PointCloudDataModule"]


class PointCloudDataModule(LightningDataModule):
    """Training, validation and test batches of a store of clouds.

    Args:
        store: a `StructureStore` or its path.
        target: name of the class to learn; the split keeps the share of each class.
        options: what becomes of a cloud; the augmentation is for the training part alone.
        split: share of the clouds in training, validation and test.
        batch_size: clouds a batch.
        seed: of the split, the order of the batches and all that is drawn for a cloud.
        workers: processes that prepare batches; 0 does it in the training process.

    Raises:
        StoreError: the store is missing or lacks the target.
        ConfigError: the split does not fit.
    """

    def __init__(
        self,
        store: StructureStore | str,
        target: str = "class",
        options: CloudOptions | None = None,
        split: Sequence[float] = (0.8, 0.1, 0.1),
        batch_size: int = 32,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, StructureStore) else StructureStore(store)
        self.targets = [self.store.label(target)]
        self.options = options or CloudOptions()
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.split: Split = make_split(self.store, SplitPolicy("stratified", tuple(split), seed, label=target))

    def statistics(self) -> dict[str, TargetStatistics]:
        """References and scale of the target, from the training part alone."""
        return {target.name: target_statistics(self.store, self.split.train, target) for target in self.targets}

    def train_dataloader(self) -> DataLoader[GraphBatch]:
        """Shuffled and augmented batches of the training part; the last, smaller one is left out."""
        return self._loader(self.split.train, training=True)

    def val_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the validation part, the same in every epoch."""
        return self._loader(self.split.val)

    def test_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the test part."""
        return self._loader(self.split.test)

    def _loader(self, indices: np.ndarray, training: bool = False) -> DataLoader[GraphBatch]:
        options = self.options if training else replace(self.options, augmentation=None)
        return DataLoader(
            PointCloudDataset(self.store, indices, self.targets, options, self.seed),
            batch_size=self.batch_size,
            sampler=EpochSampler(len(indices), self.seed, shuffle=training),
            drop_last=training and len(indices) >= self.batch_size,
            num_workers=self.workers,
            collate_fn=_already_a_batch,
        )


def _already_a_batch(batch: Any) -> Any:
    return batch
