"""Split-conformal prediction intervals and their coverage.

Papadopoulos et al. 2002; Lei et al. 2018, arXiv 1604.04173: with the k-th smallest |error| of n validation values,
k = ⌈(n+1) level⌉, as half-width, an interval covers an exchangeable value with a probability of at least `level`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molformer.uncertainty.calibration import Calibration


def half_width(errors: np.ndarray, level: float) -> float:
    """Half-width of a split-conformal interval from absolute errors (n,); infinite if there are too few.

    Example:
        >>> half_width(np.arange(1.0, 10.0), 0.9), half_width(np.arange(1.0, 9.0), 0.9)
        (9.0, inf)
    """
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    return float(np.partition(errors, rank - 1)[rank - 1]) if 0 < rank <= len(errors) else math.inf


@dataclass(frozen=True)
class Coverage:
    """Empirical coverage of prediction intervals.

    Args:
        level: nominal coverage.
        half_width: of the intervals, in the unit of the target.
        share: empirical coverage, the fraction of labels within the intervals.
        count: number of labels.
    """

    level: float
    half_width: float
    share: float
    count: int


def coverage(calibration: Calibration, values: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Coverage]:
    """Empirical coverage of the intervals by target name, for targets that have them.

    Args:
        calibration: of the model.
        values: by target name: predictions and labels, in the unit of the target, NaN where a label is missing.
    """
    measured = {}
    for name, width in calibration.half_widths.items():
        if name not in values:
            continue
        errors = np.abs(values[name][0] - values[name][1])
        errors = errors[np.isfinite(errors)]
        if len(errors):
            measured[name] = Coverage(calibration.level, width, float((errors <= width).mean()), len(errors))
    return measured
