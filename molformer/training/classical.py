"""What classical methods reach on the split of a run: a random forest on ECFP4 and gradient boosting on descriptors.

Random forest: Breiman 2001, doi 10.1023/A:1010933404324, on counts of the circular fragments of Rogers & Hahn 2010, doi
10.1021/ci100050t. Gradient boosting: scikit-learn's on histograms, on RDKit's descriptors of graph and geometry.
Letters: n molecules.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molformer.data.datamodule import StoreDataModule
from molformer.data.readers import Entry
from molformer.targets import Label
from molformer.training.target_errors import Predicted, TargetErrors, evaluate

logger = logging.getLogger(__name__)

BITS, RADIUS = 2048, 2
"""Of the fingerprint; ECFP4 is the circular one of radius 2."""

TREES, SECONDS = 500, 120.0
"""Size of a forest, or of what all forests of a run have grown to after that time."""

LARGEST = 20_000
"""Most molecules for which the methods are fitted."""


@dataclass(frozen=True)
class Classical:
    """Errors of one method on the test part.

    Args:
        method: its name.
        errors: of each target that it was fitted to.
        seconds: of features, fit and prediction.
    """

    method: str
    errors: list[TargetErrors]
    seconds: float


def compare(data: StoreDataModule, targets: Sequence[Label]) -> list[Classical]:
    """Fit the methods to the training part and evaluate them on the test part; empty where they do not apply.

    They apply to molecules that were given as SMILES. Values that are only known to lie beyond a bound are left out.

    Args:
        data: of the run.
        targets: those with one number or class a molecule are compared.
    """
    targets = [target for target in targets if not target.per_node and not target.shape]
    used = np.concatenate([data.split.train, data.split.test])
    typed = "given" not in data.store.manifest["geometries"] and len(data.store.column("smiles.utf8"))
    if not targets or not typed or not len(data.split.test) or len(used) > LARGEST:
        return []
    if importlib.util.find_spec("sklearn") is None:
        logger.info("pip install scikit-learn to see a random forest and gradient boosting beside the network")
        return []
    from sklearn import ensemble

    def forest(target: Label) -> Any:
        kinds = {"max_features": 0.3} if not target.is_class else {}
        kind = ensemble.RandomForestClassifier if target.is_class else ensemble.RandomForestRegressor
        return _Grown(kind(random_state=0, n_jobs=-1, warm_start=True, **kinds), SECONDS / len(targets))

    def boosting(target: Label) -> Any:
        kind = ensemble.HistGradientBoostingClassifier if target.is_class else ensemble.HistGradientBoostingRegressor
        return kind(random_state=0)

    logger.info("fitting a random forest and gradient boosting, for comparison")
    return [
        _fitted("random forest, ECFP4", fingerprints, forest, data, targets, used),
        _fitted("gradient boosting, RDKit descriptors", descriptors, boosting, data, targets, used),
    ]


class _Grown:
    """A forest that grows until it has `TREES` or its time is over."""

    def __init__(self, forest: Any, seconds: float) -> None:
        self.forest, self.seconds = forest, seconds

    def fit(self, features: np.ndarray, values: np.ndarray) -> Any:
        start = time.monotonic()
        for count in range(50, TREES + 1, 50):
            self.forest.set_params(n_estimators=count).fit(features, values)
            if time.monotonic() - start > self.seconds:
                break
        return self.forest


def _fitted(
    method: str,
    features: Callable[[StoreDataModule, np.ndarray], np.ndarray],
    new: Callable[[Label], Any],
    data: StoreDataModule,
    targets: Sequence[Label],
    used: np.ndarray,
) -> Classical:
    start = time.monotonic()
    train, test = np.split(features(data, used), [len(data.split.train)])
    values = {}
    for target in targets:
        column = np.asarray(data.store.column(target.name))
        known = column[data.split.train]
        there = np.isfinite(known)
        if target.is_class and len(np.unique(known[there])) < 2:
            continue  # there is nothing to tell apart
        model = new(target).fit(train[there], known[there])
        if target.is_class:
            guess = np.zeros((len(test), max(2, len(target.classes))))
            guess[:, model.classes_.astype(int)] = model.predict_proba(test)
            guess = guess if target.classes else guess[:, 1]
        else:
            guess = model.predict(test)
        values[target.name] = (guess, column[data.split.test])
    fitted = [target for target in targets if target.name in values]
    errors = evaluate(Predicted(values, data.store.sizes[data.split.test]), fitted)
    return Classical(method, errors, time.monotonic() - start)


def fingerprints(data: StoreDataModule, indices: np.ndarray) -> np.ndarray:
    """Counts of ECFP4 fragments (n, BITS) of molecules of a store with SMILES."""
    from rdkit import Chem
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    molecules = (Chem.MolFromSmiles(data.store[int(index)].smiles) or Chem.Mol() for index in indices)
    return np.stack([generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules]).astype(np.float32)


def descriptors(data: StoreDataModule, indices: np.ndarray) -> np.ndarray:
    """RDKit's descriptors (n, K) of molecules of a store, see `data.descriptors`; NaN where there is none."""
    from molformer.data.descriptors import LABELS, with_descriptors

    entries = (Entry("", structure=data.store[int(index)].annotated(labels={})) for index in indices)
    found = with_descriptors(entries, os.cpu_count() or 1)
    missing = {label.name: np.nan for label in LABELS}
    rows = [[*(missing | dict(entry.structure.labels)).values()] for entry in found if entry.structure]
    return np.array(rows, dtype=np.float32)
