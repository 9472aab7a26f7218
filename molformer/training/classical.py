"""What classical methods reach on the split of a run: a random forest on ECFP4, and gradient boosting on descriptors.

The forest (Breiman 2001, doi 10.1023/A:1010933404324) reads counts of circular fragments (Rogers & Hahn 2010, doi
10.1021/ci100050t), the boosted trees RDKit's descriptors. Letters: n molecules.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from molformer.data.datamodule import StoreDataModule
from molformer.data.descriptor_table import chosen, descriptor_table
from molformer.targets import Label
from molformer.training.target_errors import Predicted, TargetErrors, evaluate

logger = logging.getLogger(__name__)

TREES, SECONDS = 500, 120.0  # size of a forest, or what it has grown to when all forests of a run have had that time
LARGEST = 20_000  # most molecules for which the methods are fitted


@dataclass(frozen=True)
class Classical:
    """Errors of a method on the test part, by target, and the seconds that it took with its features."""

    method: str
    errors: list[TargetErrors]
    seconds: float


def compare(data: StoreDataModule, targets: Sequence[Label]) -> list[Classical]:
    """Fit the methods to the training part and evaluate them on the test part; empty where they do not apply.

    They are for molecules that were given as SMILES, and for targets with one number or class a molecule. Values that
    are only known to lie beyond a bound are left out.
    """
    targets = [target for target in targets if not target.per_node and not target.shape]
    indices = np.concatenate([data.split.train, data.split.test])
    typed = "given" not in data.store.manifest["geometries"] and len(data.store.column("smiles.utf8"))
    if not targets or not typed or not len(data.split.test) or len(indices) > LARGEST:
        return []
    logger.info("fitting a random forest and gradient boosting, for comparison")
    methods = []
    start, inputs = time.monotonic(), chosen("both", "gaussian_process")  # those that the table configs take
    table = np.nan_to_num(np.asarray(descriptor_table(data.store, inputs))[indices])
    counts = slice(len(inputs.names), len(inputs.names) + inputs.bits)
    spent = time.monotonic() - start
    for name, features, fit in (
        ("random forest, ECFP4", table[:, counts], partial(_forest, seconds=SECONDS / len(targets))),
        ("gradient boosting, RDKit descriptors", table[:, : counts.start], _boosting),
    ):
        start, values = time.monotonic(), {}
        train, test = np.split(features, [len(data.split.train)])
        for target in targets:
            known, truth = np.split(data.store.column(target.name)[indices], [len(train)])
            there = np.isfinite(known)
            if len(np.unique(known[there])) < 2:
                continue  # nothing to learn
            model = fit(target.is_class, train[there], known[there])
            if target.is_class:
                guess = np.zeros((len(test), max(2, len(target.classes))))
                guess[:, model.classes_.astype(int)] = model.predict_proba(test)
                guess = guess if target.classes else guess[:, 1]
            else:
                guess = model.predict(test)
            values[target.name] = (guess, truth)
        fitted = [target for target in targets if target.name in values]
        errors = evaluate(Predicted(values, data.store.sizes[data.split.test]), fitted)
        methods.append(Classical(name, errors, time.monotonic() - start + spent))
    return methods


def _forest(is_class: bool, features: np.ndarray, values: np.ndarray, seconds: float) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind, share = (RandomForestClassifier, "sqrt") if is_class else (RandomForestRegressor, 0.3)
    model = kind(max_features=share, random_state=0, n_jobs=-1, warm_start=True)
    start = time.monotonic()
    for count in range(50, TREES + 1, 50):
        model.set_params(n_estimators=count).fit(features, values)
        if time.monotonic() - start > seconds:
            break
    return model


def _boosting(is_class: bool, features: np.ndarray, values: np.ndarray) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
    return kind(random_state=0).fit(features, values)
