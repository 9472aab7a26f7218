"""What the data of a run say of its model's doubts: intervals, their coverage on the test part, and the domain.

The cost is bounded, however large the data: a sample of the training part, and at most `MOST` validation molecules.
"""

import numpy as np

from molformer.data.datamodule import StoreDataModule
from molformer.data.statistics import atom_rows
from molformer.inference.calibration import Calibration, calibrate
from molformer.models.property import PropertyModel

REFERENCES = 4096
"""Training molecules to which distances are measured."""

POOL = 20_000
"""Training molecules from which they are chosen; those of rare formulas first."""

MOST = 10_000
"""Validation molecules that are looked at."""


def calibrate_run(model: PropertyModel, data: StoreDataModule) -> Calibration:
    """Calibration of a model that was trained on the training part and chosen on the validation part of some data.

    Args:
        model: the trained model.
        data: its data; which molecules are looked at depends on their seed alone.
    """
    generator = np.random.default_rng(data.seed)
    train = _sample(data.split.train, POOL, generator, _formula_counts(data))
    val = _sample(data.split.val, MOST, generator)
    origins = data.store.manifest["geometries"]
    return calibrate(
        model,
        data.loader(train),
        data.loader(val) if len(val) else [],
        references=REFERENCES,
        charges=np.unique(data.store.column("charge")[data.split.train]).tolist(),
        spins=sorted({data.store[index].spin for index in data.split.train.tolist()}),
        geometries=[origins[index] for index in np.unique(data.store.column("geometry")[data.split.val])],
    )


def _sample(
    indices: np.ndarray, most: int, generator: np.random.Generator, frequency: np.ndarray | float = 1.0
) -> np.ndarray:
    """Some of the indices (n,), drawn without replacement, the likelier the rarer: as 1 / frequency (n,)."""
    if len(indices) <= most:
        return indices
    return np.sort(indices[np.argpartition(generator.exponential(size=len(indices)) * frequency, most)[:most]])


def _formula_counts(data: StoreDataModule) -> np.ndarray:
    """How many molecules of the training part have the formula of each of them: (n,)."""
    store, train = data.store, data.split.train
    numbers = store.column("numbers")[atom_rows(store, train)]
    owner = np.repeat(np.arange(len(train)), store.sizes[train])
    elements, kinds = np.unique(numbers, return_inverse=True)
    formulas = np.zeros((len(train), len(elements)), dtype=np.int32)
    np.add.at(formulas, (owner, kinds), 1)
    _, which, counts = np.unique(formulas, axis=0, return_inverse=True, return_counts=True)
    return counts[which.reshape(-1)]
