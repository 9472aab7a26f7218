"""What a model needs to know of a target on the training part; `data.statistics` fits it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetStatistics:
    """Statistics of one target on a training set.

    Args:
        references: value of each element (Z,), in the target's unit.
        scale: root mean square of what the references leave, in the target's unit.
        size: mean number of atoms.
    """

    references: np.ndarray
    scale: float
    size: float


def robust_statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of columns: a quarter of what 95 % of the values span, which outliers do not change.

    A column that is nearly always the same, such as the count of a rare group, has its standard deviation; one that is
    constant or empty has no spread (0) and is left out.

    Args:
        values: (n, K), NaN where missing.

    Returns:
        Two arrays (K,).

    Example:
        >>> centre, spread = robust_statistics(np.array([[1.0, 5], [2, 5], [3, 5], [np.nan, 5], [1e9, 5]]))
        >>> centre.tolist(), float(spread[1])
        ([2.5, 5.0], 0.0)
    """
    empty = ~np.isfinite(values).any(0)
    known = np.where(empty, 0.0, values)
    low, centre, high = np.nanquantile(known, (0.025, 0.5, 0.975), axis=0).reshape(3, -1)  # also without columns
    spread = (high - low) / 4
    return centre, np.where(spread > 0, spread, np.nanstd(known, axis=0))
