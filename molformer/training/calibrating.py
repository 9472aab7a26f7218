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

MOST = 10_000
"""Validation molecules that are looked at."""


def calibrate_run(model: PropertyModel, data: StoreDataModule) -> Calibration:
    """Calibration of a model that was trained on the training part and chosen on the validation part of some data.

    Args:
        model: the trained model.
        data: its data; which molecules are looked at depends on their seed alone.
    """
    generator = np.random.default_rng(data.seed)
    train = _sample(data.split.train, REFERENCES, generator)
    val = _sample(data.split.val, MOST, generator)
    origins = data.store.manifest["geometries"]
    return calibrate(
        model,
        data.loader(train),
        data.loader(val),
        references=REFERENCES,
        charges=np.unique(data.store.column("charge")[data.split.train]).tolist(),
        spins=np.unique(_multiplicities(data)).tolist(),
        geometries=[origins[index] for index in np.unique(data.store.column("geometry")[data.split.val])],
    )


def _sample(indices: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    return indices if len(indices) <= most else np.sort(generator.choice(indices, most, replace=False))


def _multiplicities(data: StoreDataModule) -> np.ndarray:
    """2S+1 of the training part, as the store says it but at least 2 where the number of electrons is odd."""
    store, train = data.store, data.split.train
    ends = np.cumsum(store.sizes[train])
    protons = np.cumsum(store.column("numbers")[atom_rows(store, train)], dtype=np.int64)[ends - 1]
    electrons = np.diff(protons, prepend=0) - store.column("charge")[train]
    return np.maximum(store.column("spin")[train], 1 + electrons % 2)
