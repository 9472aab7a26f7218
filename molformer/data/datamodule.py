"""MoleculeDataModule: from a store to batches of graphs for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from molformer.data.graph import GraphBatch
from molformer.data.splits import Split, random_split
from molformer.data.statistics import TargetStatistics, atom_rows, target_statistics
from molformer.data.store import StructureStore
from molformer.data.structure import Label


class StoreDataset(Dataset[GraphBatch]):
    """Structures of a store, fetched a batch at a time by slicing its columns.

    Args:
        store: the structures.
        indices: which of them, in order.
        targets: the labels that come along.
    """

    def __init__(self, store: StructureStore, indices: np.ndarray, targets: Sequence[Label]) -> None:
        self.store = store
        self.indices = indices
        self.targets = tuple(targets)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> GraphBatch:
        return self.__getitems__([index])

    def __getitems__(self, chosen: Sequence[int]) -> GraphBatch:
        indices = self.indices[list(chosen)]
        rows = atom_rows(self.store, indices)
        sizes = self.store.sizes[indices]
        labels = {
            target.name: torch.from_numpy(self.store.column(target.name)[rows if target.per_node else indices])
            for target in self.targets
        }
        return GraphBatch(
            numbers=torch.from_numpy(self.store.column("numbers")[rows].astype(np.int64)),
            pos=torch.from_numpy(self.store.column("pos")[rows].astype(np.float32)),
            ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            charge=torch.from_numpy(self.store.column("charge")[indices].astype(np.float32)),
            labels=labels,
        )


class MoleculeDataModule(LightningDataModule):
    """Training, validation and test batches of a store.

    Args:
        store: path of a `StructureStore`.
        targets: names of the labels to learn.
        split: share of the molecules in training, validation and test.
        batch_size: graphs a batch.
        seed: of the split and of the order of the batches.
        workers: processes that prepare batches; 0 does it in the training process, which is fast enough for
            molecules.

    Raises:
        StoreError: the store is missing or lacks a target.
        ConfigError: the split does not fit.
    """

    def __init__(
        self,
        store: str,
        targets: Sequence[str],
        split: Sequence[float] = (0.8, 0.1, 0.1),
        batch_size: int = 32,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.store = StructureStore(store)
        self.targets = [self.store.label(name) for name in targets]
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.split: Split = random_split(self.store.groups, split, seed)

    def statistics(self) -> dict[str, TargetStatistics]:
        """References and scale of each target, from the training part alone."""
        return {target.name: target_statistics(self.store, self.split.train, target) for target in self.targets}

    def train_dataloader(self) -> DataLoader[GraphBatch]:
        """Shuffled batches of the training part; the last, smaller one is left out."""
        generator = torch.Generator().manual_seed(self.seed)
        return self._loader(self.split.train, shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the validation part."""
        return self._loader(self.split.val)

    def test_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the test part."""
        return self._loader(self.split.test)

    def _loader(
        self, indices: np.ndarray, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> DataLoader[GraphBatch]:
        return DataLoader(
            StoreDataset(self.store, indices, self.targets),
            batch_size=self.batch_size,
            shuffle=shuffle,
            generator=generator,
            drop_last=shuffle and len(indices) >= self.batch_size,
            num_workers=self.workers,
            collate_fn=_already_a_batch,
        )


def _already_a_batch(batch: Any) -> Any:
    return batch
