"""From the outputs of several models for several conformers to one value with its spreads.

Letters: K models, L conformers.
"""

from dataclasses import replace

import numpy as np

from molformer.data.structure import Label
from molformer.inference.prediction import Value


def combined(target: Label, values: np.ndarray, half_width: float | None = None) -> Value:
    """One value from those of K models for L conformers of a molecule.

    A number is the mean of all. What turns with the molecule is the mean over the models for the first conformer, the
    best one; means over geometries that are turned at will mean nothing.

    Args:
        target: what it is, with the unit of the values.
        values: (K, L, …).
        half_width: of the interval, in the same unit; None for none.
    """
    models, conformers = values.shape[:2]
    if models == conformers == 1:
        return _single(target, values[0, 0], half_width)
    directed = bool(target.shape)
    value = values[:, 0].mean(0) if directed else values.mean((0, 1))
    by_model = values[:, 0] if directed else values.mean(1)
    by_conformer = values.mean(0)
    if directed:
        axes = tuple(range(-len(target.shape), 0))
        by_conformer = np.sqrt(np.square(by_conformer).sum(axes))
    return replace(
        _single(target, value, half_width),
        conformer_std=by_conformer.std(0, ddof=1) if conformers > 1 else None,
        ensemble_std=by_model.std(0, ddof=1) if models > 1 else None,
    )


def _single(target: Label, value: np.ndarray, half_width: float | None) -> Value:
    interval = None if half_width is None else (value - half_width, value + half_width)
    return Value(value, target.unit, interval=interval)
