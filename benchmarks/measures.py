"""Measures of error with bootstrap intervals over structures.

All but the area under the ROC curve are sums over structures, Σ a / Σ b, or the root of it, so that a resampled set
of structures costs two sums. Letters: n structures, N atoms of all of them, k components of a label.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from molformer.training.bootstrap import ratio_interval, sample_interval

Statistic = Literal["MAE", "RMSE", "length", "relative RMSE", "accuracy", "ROC-AUC"]
Part = Literal["", "isotropic", "anisotropic"]


@dataclass(frozen=True)
class Measure:
    """One number of the table.

    Args:
        target: name of the label.
        statistic: `MAE` and `RMSE` are taken over components, `length` is the mean length of a vector's error,
            `relative RMSE` is in percent of the test part's own spread.
        unit: as printed.
        factor: from the target's unit to it.
        per_atom: whether the error is divided by the number of atoms.
        part: of a tensor; `isotropic` is its trace, `anisotropic` what is left without it.
        turned: whether the structures of the test part were randomly rotated.
    """

    target: str
    statistic: Statistic
    unit: str = ""
    factor: float = 1.0
    per_atom: bool = False
    part: Part = ""
    turned: bool = False

    @property
    def name(self) -> str:
        """What it is called in the table, with its unit."""
        words = [self.target, self.part, "mean length of error" if self.statistic == "length" else self.statistic]
        pose = ", randomly rotated" if self.turned else ""
        return " ".join(word for word in words if word) + pose + (f", {self.unit}" if self.unit else "")


def interval(
    measure: Measure, prediction: np.ndarray, label: np.ndarray, sizes: np.ndarray
) -> tuple[float, float, float]:
    """Value of a measure and its 95 % bootstrap interval over structures.

    Args:
        measure: what is measured.
        prediction: (n, …) or (N, …), in the target's unit.
        label: the same; classes (n,) as indices. NaN where missing.
        sizes: atoms of each structure (n,).
    """
    if measure.statistic == "ROC-AUC":
        kept = np.isfinite(label)
        prediction, label = prediction[kept], label[kept]
        whole = _area(prediction, label)
        return whole, *sample_interval(lambda drawn: _area(prediction[drawn], label[drawn]), len(label))
    sums = np.stack(_terms(measure, prediction, label, sizes), axis=1)  # (n, 2)

    def figure(sums: np.ndarray) -> np.ndarray:
        ratio = sums[:, 0] / sums[:, 1]
        return np.sqrt(ratio) if "RMSE" in measure.statistic else ratio

    return float(figure(sums.sum(axis=0, keepdims=True))[0]), *ratio_interval(sums, figure)


def _terms(
    measure: Measure, prediction: np.ndarray, label: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sums a and b of each structure (n,)."""
    if measure.statistic == "accuracy":
        answer = prediction.argmax(-1) if prediction.ndim > 1 else prediction > 0.5
        return 100.0 * (answer == label), np.ones(len(label))
    label, prediction = (_part(values, measure.part) for values in (label, prediction))
    error = (prediction - label).reshape(len(label), -1) * measure.factor  # (n or N, k)
    there = np.isfinite(error)
    error = np.where(there, error, 0.0)
    if measure.per_atom:
        error = error / sizes[:, None]
    if measure.statistic == "length":
        above, below = np.linalg.norm(error, axis=1), there.all(axis=1).astype(float)
    elif measure.statistic == "MAE":
        above, below = np.abs(error).sum(axis=1), there.sum(axis=1).astype(float)
    elif measure.statistic == "RMSE":
        above, below = np.square(error).sum(axis=1), there.sum(axis=1).astype(float)
    else:
        # What does not depend on the frame has a mean to be spread about; what turns with it has none.
        spread = label - label.mean(axis=0) if label.ndim == 1 else label
        above = 100.0**2 * np.square(error / measure.factor).sum(axis=1)
        below = np.square(spread).reshape(len(label), -1).sum(axis=1)
    if len(above) != len(sizes):  # per atom: the sums of each structure
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        above, below = np.add.reduceat(above, starts), np.add.reduceat(below, starts)
    return above, below


def _part(values: np.ndarray, part: Part) -> np.ndarray:
    if not part:
        return values
    trace = np.trace(values, axis1=1, axis2=2) / 3
    return trace if part == "isotropic" else values - trace[:, None, None] * np.eye(3)


def _area(probability: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, %: how often a positive stands above a negative (Mann-Whitney)."""
    from scipy.stats import rankdata

    positive = label == 1
    pairs = positive.sum() * (~positive).sum()
    if pairs == 0:
        return float("nan")
    ranks = rankdata(probability)[positive].sum()
    return float(100.0 * (ranks - positive.sum() * (positive.sum() + 1) / 2) / pairs)
