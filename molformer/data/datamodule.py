"""Data modules: training, validation and test batches of a store."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from molformer.data.batching import EpochBatches
from molformer.data.known_labels import DESCRIPTOR
from molformer.data.several_conformers import conformer_labels, drawn
from molformer.data.splits import Split, SplitPolicy, make_split
from molformer.data.statistics import TargetStatistics, atom_rows, target_statistics
from molformer.data.store import StructureStore
from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.targets import Label, bounds_of


class StoreDataset(Dataset[GraphBatch]):
    """Structures of a store, indexed by batch and read by slicing columns.

    Args:
        store: the structures.
        indices: which of them, in order.
        targets: labels to load, with the bounds of their values, see `bounds_of`.
        seed: of random choices.
        inputs: descriptors of all structures of the store (n, D), which the model takes; None for none.
    """

    def __init__(
        self,
        store: StructureStore,
        indices: np.ndarray,
        targets: Sequence[Label],
        seed: int = 0,
        inputs: np.ndarray | None = None,
    ) -> None:
        self.store = store
        self.inputs = inputs
        self.indices = indices
        self.seed = seed
        bounds = [name for target in targets for name in bounds_of(target.name)]
        self.targets = (*targets, *(store.labels[name] for name in bounds if name in store.labels))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Sequence[Any]) -> GraphBatch:
        """Batch of the structures at some positions of this part."""
        indices = self.indices[list(chosen)]
        rows = atom_rows(self.store, indices)
        graph = self.store.molecular_graph(indices)
        more = {"spin": self.store.column("spin")[indices].astype(np.int64)}
        more |= {} if self.inputs is None else {"descriptors": self.inputs[indices]}
        more |= {} if graph is None else vars(graph)
        if "cell" in self.store.columns:  # zeros if not periodic
            more["cell"] = np.nan_to_num(self.store.column("cell")[indices]).astype(np.float32)
            more["pbc"] = self.store.column("pbc")[indices] == 1
        return self.batch(indices, rows, self.store.column("pos")[rows], self.store.sizes[indices], **more)

    def batch(
        self,
        indices: np.ndarray,
        rows: np.ndarray,
        pos: np.ndarray,
        sizes: Sequence[int] | np.ndarray,
        **more: np.ndarray,
    ) -> GraphBatch:
        """Batch of B structures: `rows` of the store are their N atoms or points, at `pos` (N, 3), with more
        attributes.
        """
        if "features" in self.store.columns:
            more["features"] = self.store.column("features")[rows].astype(np.float32)
        labels = {
            target.name: torch.from_numpy(self.store.column(target.name)[rows if target.per_node else indices])
            for target in self.targets
        }
        return GraphBatch(
            numbers=torch.from_numpy(self.store.column("numbers")[rows].astype(np.int64)),
            pos=torch.from_numpy(pos.astype(np.float32)),
            ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
            batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            charge=torch.from_numpy(self.store.column("charge")[indices].astype(np.float32)),
            labels=labels,
            **{name: torch.from_numpy(value) for name, value in more.items()},
        )


class _DrawnConformers(StoreDataset):
    """Structures with one of their conformers, drawn anew in every epoch; indexed by pairs of epoch and position."""

    def __getitem__(self, chosen: Sequence[Any]) -> GraphBatch:
        graph = super().__getitem__([position for _, position in chosen])
        return drawn(graph, np.random.default_rng([self.seed, *np.ravel(chosen).tolist()]))


class StoreDataModule(LightningDataModule, ABC):
    """Base class of `MoleculeDataModule` and `PointCloudDataModule`.

    In distributed training, training and validation batches are divided among the processes; each process has all test
    batches, of which `predict_batches` distributes the predictions.
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

    inputs: np.ndarray | None = None
    """Descriptors of all structures of the store (n, D) that batches have, see `data.descriptors`."""

    def statistics(self) -> dict[str, TargetStatistics]:
        """References and scale of each target, from the training part only."""
        return {target.name: target_statistics(self.store, self.split.train, target) for target in self.targets}

    def train_dataloader(self) -> DataLoader[GraphBatch]:
        """Shuffled batches of the training part, without the last, smaller one."""
        return self.loader(self.repeated(self.split.train), training=True, shared=True)

    def repeated(self, indices: np.ndarray) -> np.ndarray:
        """Indices of the structures with repetitions for training."""
        return indices

    def val_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the validation part, or of the training part if there is none, identical in every epoch."""
        return self.loader(self.split.val if len(self.split.val) else self.split.train, shared=True)

    def test_dataloader(self) -> DataLoader[GraphBatch]:
        """Batches of the test part, all of them in every process."""
        return self.loader(self.split.test)

    @abstractmethod
    def dataset(self, indices: np.ndarray, training: bool) -> Dataset[GraphBatch]:
        """Dataset indexed by lists of positions in `indices`."""

    @abstractmethod
    def draws(self, training: bool) -> bool:
        """Whether the dataset makes random choices, so that it is indexed by pairs of epoch and position."""

    def costs(self, indices: np.ndarray) -> tuple[np.ndarray | None, int]:
        """Costs of structures, and the limit of their sum in a batch of one process; None for no limit."""
        return None, 0

    def batches(self, indices: np.ndarray, training: bool, rank: int = 0, world: int = 1) -> EpochBatches:
        """Batch sampler of positions in `indices`."""
        return EpochBatches(
            len(indices),
            self.batch_size,
            training,
            self.seed,
            *self.costs(indices),
            self.epoch_size,
            rank,
            world,
            with_epoch=self.draws(training),
        )

    def loader(self, indices: np.ndarray, training: bool = False, shared: bool = False) -> DataLoader[GraphBatch]:
        """Batches of some structures in order, all of them in every process unless they are shared."""
        trainer = self.trainer if shared else None
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        sampler = self.batches(indices, training, rank, world)
        dataset = self.dataset(indices, training)
        return DataLoader(dataset, None, sampler=sampler, num_workers=self.workers, collate_fn=_as_it_is)


class MoleculeDataModule(StoreDataModule):
    """Training, validation and test batches of a store of molecules.

    Args:
        store: a `StructureStore` or its path.
        targets: names of the labels to predict.
        split: policy of the split.
        batch_size: graphs per batch, over all processes; the maximum if one of the following limits is set.
        batch_atoms: largest number of atoms in a batch of one process, 0 for no limit.
        batch_edges: the same for edges of fully connected molecules.
        epoch_size: graphs of an epoch, 0 for the whole training part.
        seed: of the split and of the order of the batches.
        workers: number of data-loading processes.
        repeats: repetitions per epoch of the structures with a geometry of some origin; 1 by default.
        descriptors: let batches also have the labels that are descriptors of RDKit.
        conformers: of each molecule, see `several_conformers`: training draws one, other batches have all.

    Raises:
        StoreError: the store is missing or lacks a target.
        ConfigError: the split is invalid, a molecule exceeds a limit, or the store has no such geometry or conformers.
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
        conformers: int = 1,
    ) -> None:
        if batch_atoms and batch_edges:
            raise ConfigError("bound a batch by batch_atoms or by batch_edges, not by both")
        super().__init__(store, targets, split or SplitPolicy(seed=seed), batch_size, epoch_size, seed, workers)
        self.batch_atoms = batch_atoms
        self.batch_edges = batch_edges
        self.repeats = dict(repeats or {})
        if descriptors:
            self.also = [label for name, label in self.store.labels.items() if name.startswith(DESCRIPTOR)]
        self.conformers = conformer_labels(conformers)
        if not {label.name for label in self.conformers} <= set(self.store.labels):
            raise ConfigError(f"'{self.store.path}' lacks {conformers} conformers of each molecule: train from a table")
        for target in self.targets if self.conformers else ():
            if target.per_node or target.shape:
                raise ConfigError(f"conformers is for numbers and classes of molecules, which '{target.name}' is not")
        if unknown := set(self.repeats) - set(self.store.manifest["geometries"]):
            known = ", ".join(self.store.manifest["geometries"])
            raise ConfigError(f"geometry_repeats names '{min(unknown)}'; the store has {known}")

    def repeated(self, indices: np.ndarray) -> np.ndarray:
        """Indices of the structures with repetitions for training."""
        counts = np.array([self.repeats.get(method, 1) for method in self.store.manifest["geometries"]])
        repeated = np.repeat(indices, counts[self.store.column("geometry")[indices]])
        if not len(repeated):
            raise ConfigError("geometry_repeats leaves no structure to learn from")
        return repeated

    def dataset(self, indices: np.ndarray, training: bool) -> StoreDataset:
        """Dataset indexed by lists of positions in `indices`, with the epoch where training draws conformers."""
        kind = _DrawnConformers if self.draws(training) else StoreDataset
        return kind(self.store, indices, [*self.targets, *self.also, *self.conformers], self.seed, self.inputs)

    def draws(self, training: bool) -> bool:
        """Training draws one of several conformers."""
        return training and bool(self.conformers)

    def costs(self, indices: np.ndarray) -> tuple[np.ndarray | None, int]:
        """Atoms or edges, and their limit."""
        sizes = self.store.sizes[indices]
        costs = sizes if self.batch_atoms else sizes * (sizes - 1) if self.batch_edges else None
        return costs, self.batch_atoms or self.batch_edges


def _as_it_is(batch: Any) -> Any:
    return batch
