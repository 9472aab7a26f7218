"""Predictors that a model has to beat, fitted on the training part: mean, composition, charges, random forest.

Each takes a data module and one of its targets and gives predictions for the test part in the layout of its labels,
(n,), (n, 3) or (n, 3, 3), or (N,) and (N, 3) for labels per atom; probabilities for a binary target.
Letters: n structures of the test part, N atoms of all of them.
"""

from collections.abc import Callable

import numpy as np

from molformer.data.datamodule import StoreDataModule
from molformer.data.descriptor_table import chosen, descriptor_table
from molformer.data.statistics import atom_rows, baseline_values, labelled_values, target_statistics
from molformer.data.structure import Label
from molformer.training.classical import TREES
from molformer.units import E_ANGSTROM, factor


def mean(data: StoreDataModule, target: Label) -> np.ndarray:
    """The training part's mean for everything; for classes their frequencies."""
    train, _ = labelled_values(data.store, data.split.train, target)
    count = len(atom_rows(data.store, data.split.test)) if target.per_node else len(data.split.test)
    if target.classes:
        train = np.eye(len(target.classes))[train.astype(int)]
    return np.broadcast_to(train.mean(axis=0), (count, *train.shape[1:]))


def by_composition(data: StoreDataModule, target: Label) -> np.ndarray:
    """Least squares on the atoms of each element; for a tensor, of its isotropic part."""
    references = target_statistics(data.store, data.split.train, target).references
    return np.asarray(baseline_values(data.store, data.split.test, target, references))


def point_charges(data: StoreDataModule, target: Label) -> np.ndarray:
    """Dipoles (n, 3) of the charges that the store holds beside them."""
    rows = atom_rows(data.store, data.split.test)
    moments = data.store.column("charges")[rows, None].astype(np.float64) * data.store.column("pos")[rows]
    starts = np.concatenate([[0], np.cumsum(data.store.sizes[data.split.test])[:-1]])
    return np.add.reduceat(moments, starts) * E_ANGSTROM * factor("D", target.unit)


def random_forest(data: StoreDataModule, target: Label) -> np.ndarray:
    """Random forest on counts of ECFP4 fragments."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    table = np.nan_to_num(np.asarray(descriptor_table(data.store, chosen("ecfp"))))
    inputs = {part: table[getattr(data.split, part)] for part in ("train", "test")}
    labels = np.asarray(data.store.column(target.name)[data.split.train])
    kept = np.isfinite(labels)
    if target.is_class:
        forest = RandomForestClassifier(TREES, random_state=0, n_jobs=-1).fit(inputs["train"][kept], labels[kept])
        return forest.predict_proba(inputs["test"])[:, 1]
    forest = RandomForestRegressor(TREES, max_features=0.3, random_state=0, n_jobs=-1).fit(
        inputs["train"][kept], labels[kept]
    )
    return forest.predict(inputs["test"])


BASELINES: dict[str, Callable[[StoreDataModule, Label], np.ndarray]] = {
    "mean": mean,
    "composition": by_composition,
    "Mulliken charges": point_charges,
    "random forest": random_forest,
}
