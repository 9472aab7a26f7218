"""Aggregation of predictions over an ensemble of models and over conformers, with standard deviations.

Letters: K models, L conformers.
"""

import numpy as np

from molformer.inference.prediction import Value
from molformer.targets import Label


def aggregated(target: Label, values: np.ndarray, half_width: float | None = None) -> Value:
    """Mean and standard deviations of the values of K models for L conformers of a molecule.

    Scalars are averaged over models and conformers. Vectors and tensors are averaged over the models for the first
    conformer, that of lowest energy: the orientations of conformers are arbitrary.

    Args:
        target: with the unit of the values.
        values: (K, L, …).
        half_width: of the interval, in the same unit; None for none.
    """
    models, conformers = values.shape[:2]
    directed = bool(target.shape)
    value = values[:, 0].mean(0) if directed else values.mean((0, 1))
    conformer_std = ensemble_std = None
    if conformers > 1:
        by_conformer = values.mean(0)
        if directed:
            by_conformer = np.sqrt(np.square(by_conformer).sum(tuple(range(-len(target.shape), 0))))
        conformer_std = by_conformer.std(0, ddof=1)
    if models > 1:
        ensemble_std = (values[:, 0] if directed else values.mean(1)).std(0, ddof=1)
    interval = None if half_width is None else (value - half_width, value + half_width)
    return Value(value, target.unit, conformer_std, ensemble_std, interval)
