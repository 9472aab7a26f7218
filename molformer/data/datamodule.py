"""Data modules: from a store to batches of graphs for training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from molformer.data.batching import EpochBatches
from molformer.data.known_labels import DESCRIPTOR
from molformer.data.splits import Split, SplitPolicy, make_split
from molformer.data.statistics import TargetStatistics, atom_rows, target_statistics
from molformer.data.store import StructureStore
from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.graph import GraphBatch


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

    def __getitem__(self, chosen: Sequence[int]) -> GraphBatch:
        """Batch of the structures at some places of this part."""
        indices = self.indices[list(chosen)]
        rows = atom_rows(self.store, indices)
        sizes = self.store.sizes[indices]
        labels = {
            target.name: torch.from_numpy(self.store.column(target.name)[rows if target.per_node else indices])
            for target in self.targets
        }
        features = self.store.column("features")[rows] if "features" in self.store.columns else None
        return GraphBatch(
            numbers=torch.from_numpy(self.store.column("numbers")[rows].astype(np.int64)),
            pos=torch.from_numpy(self.store.column("pos")[rows].astype(np.float32)),
            ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            charge=torch.from_numpy(self.store.column("charge")[indices].astype(np.float32)),
            labels=labels,
            features=None if features is None else torch.from_numpy(features.astype(np.float32)),
            **self._cells(indices),
        )

    def _cells(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Cells of the structures, zeros for those that are not periodic; nothing if the store has none."""
        if "cell" not in self.store.columns:
            return {}
        cells = np.nan_to_num(self.store.column("cell")[indices]).astype(np.float32)
        return {"cell": torch.from_numpy(cells), "pbc": torch.from_numpy(self.store.column("pbc")[indices] == 1)}


class StoreDataModule(LightningDataModule, ABC):
    """Training, validation and test batches of a store; `MoleculeDataModule` and `PointCloudDataModule` are such.

    Under a distributed trainer each process gets its share of the training and validation batches; every one gets the
    whole test part, whose predictions `predict_batches` shares out.

    Args:
        store: a `StructureStore` or its path.
        targets: names of the labels to learn.
        split: how it is split.
        batch_size: graphs a batch, over all processes together.
        epoch_size: graphs of an epoch, 0 for the whole training part.
        seed: of the order of the batches.
        workers: processes that prepare batches; 0 does it in the training process, which is fast enough for
            molecules.
    """

    def __init__(
        self,
        store: StructureStore | str,
        targets: Sequence[str],
        split: SplitPolicy,
        batch_size: int,
        epoch_size: int,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, StructureStore) else StructureStore(store)
        self.targets = [self.store.label(name) for name in targets]
        self.batch_size = batch_size
        self.epoch_size = epoch_size
        self.seed = seed
        self.workers = workers
        self.split: Split = make_split(self.store, split)

    also: Sequence[Label] = ()
    """Labels that batches have beside the targets."""

    def statistics(self) -> dict[str, TargetStatistics]:
        """References and scale of each target, from the training part alone."""
        return {target.name: target_statistics(self.store, self.split.train, target) for target in self.targets}

    def train_dataloader(self) -> DataLoader[GraphBatch]:
        """Shuffled batches of the training part; the last, smaller one is left out."""
        return self._loader(self.repeated(self.split.train), training=True, shared=True)

    def repeated(self, indices: np.ndarray) -> np.ndarray:
        """Structures as often as one pass over them in training has them."""
        return indices

    def val_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the validation part, the same in every epoch; of the training part where there is none."""
        return self._loader(self.split.val if len(self.split.val) else self.split.train, shared=True)

    def test_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the test part, all of them in every process."""
        return self.loader(self.split.test)

    def loader(self, indices: np.ndarray) -> DataLoader[GraphBatch]:
        """Batches of some structures as they are, all of them in every process."""
        return self._loader(indices)

    @abstractmethod
    def dataset(self, indices: np.ndarray, training: bool) -> Dataset[GraphBatch]:
        """Gives a batch for a list of places in `indices`."""

    @abstractmethod
    def batches(self, indices: np.ndarray, training: bool, rank: int = 0, world: int = 1) -> EpochBatches:
        """Which places of `indices` stand together."""

    def _loader(self, indices: np.ndarray, training: bool = False, shared: bool = False) -> DataLoader[GraphBatch]:
        trainer = self.trainer if shared else None
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        sampler = self.batches(indices, training, rank, world)
        dataset = self.dataset(indices, training)
        return DataLoader(dataset, None, sampler=sampler, num_workers=self.workers, collate_fn=_as_it_is)


class MoleculeDataModule(StoreDataModule):
    """Training, validation and test batches of a store of molecules.

    Args:
        store: a `StructureStore` or its path.
        targets: names of the labels to learn.
        split: how it is split.
        batch_size: graphs a batch, over all processes together; with a bound below, the most of them.
        batch_atoms: largest number of atoms of a batch of one process, 0 for any.
        batch_edges: the same for edges, if all atoms of a molecule were neighbours.
        epoch_size: graphs of an epoch, 0 for the whole training part.
        seed: of the split and of the order of the batches.
        workers: processes that prepare batches.
        repeats: how often one pass over the training part has structures of a geometry, by its method; once where it is
            not named.
        descriptors: let batches also have the labels that are descriptors of RDKit.

    Raises:
        StoreError: the store is missing or lacks a target.
        ConfigError: the split does not fit, a molecule is beyond a bound, or the store has no such geometry.
    """

    def __init__(
        self,
        store: StructureStore | str,
        targets: Sequence[str],
        split: SplitPolicy | None = None,
        batch_size: int = 32,
        batch_atoms: int = 0,
        batch_edges: int = 0,
        epoch_size: int = 0,
        seed: int = 0,
        workers: int = 0,
        repeats: Mapping[str, int] | None = None,
        descriptors: bool = False,
    ) -> None:
        if batch_atoms and batch_edges:
            raise ConfigError("bound a batch by batch_atoms or by batch_edges, not by both")
        super().__init__(store, targets, split or SplitPolicy(seed=seed), batch_size, epoch_size, seed, workers)
        self.batch_atoms = batch_atoms
        self.batch_edges = batch_edges
        self.repeats = dict(repeats or {})
        if descriptors:
            self.also = [label for name, label in self.store.labels.items() if name.startswith(DESCRIPTOR)]
        if unknown := set(self.repeats) - set(self.store.manifest["geometries"]):
            known = ", ".join(self.store.manifest["geometries"])
            raise ConfigError(f"geometry_repeats names '{min(unknown)}'; the store has {known}")

    def repeated(self, indices: np.ndarray) -> np.ndarray:
        """Structures as often as one pass over them in training has them."""
        counts = np.array([self.repeats.get(method, 1) for method in self.store.manifest["geometries"]])
        repeated = np.repeat(indices, counts[self.store.column("geometry")[indices]])
        if not len(repeated):
            raise ConfigError("geometry_repeats leaves no structure to learn from")
        return repeated

    def dataset(self, indices: np.ndarray, training: bool) -> StoreDataset:
        """Gives a batch for a list of places in `indices`."""
        return StoreDataset(self.store, indices, [*self.targets, *self.also])

    def batches(self, indices: np.ndarray, training: bool, rank: int = 0, world: int = 1) -> EpochBatches:
        """Which places of `indices` stand together."""
        sizes = self.store.sizes[indices]
        costs = sizes if self.batch_atoms else sizes * (sizes - 1) if self.batch_edges else None
        return EpochBatches(
            len(indices),
            self.batch_size,
            training,
            self.seed,
            costs,
            self.batch_atoms or self.batch_edges,
            self.epoch_size,
            rank,
            world,
        )


def _as_it_is(batch: Any) -> Any:
    return batch
