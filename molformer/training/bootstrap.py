"""Bootstrap confidence intervals of metrics, by resampling structures.

Structures are drawn with replacement together with all of their atoms (Efron 1979,
doi 10.1214/aos/1176344552). Letters: n structures, k sums of each, R resamples.
"""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95

Interval = tuple[float, float]
NO_INTERVAL = (float("nan"), float("nan"))


def ratio_interval(
    sums: np.ndarray, figure: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Central 95 % interval of a metric that is a function of sums over structures, to which each contributes (n, k);
    `figure` maps the sums of R resamples (R, k) to it (R,). NaN for fewer than two structures.

    Example:
        >>> errors = np.array([[1.0, 1], [2.0, 1], [3.0, 1]])
        >>> low, high = ratio_interval(errors, lambda sums: sums[:, 0] / sums[:, 1])
        >>> 1 <= low < 2 < high <= 3
        True
    """
    if len(sums) < 2:
        return NO_INTERVAL
    random = np.random.default_rng(seed)
    size = len(sums)
    counts = (np.bincount(random.integers(0, size, size), minlength=size) for _ in range(resamples))
    drawn = np.stack([count.astype(np.float64) @ sums for count in counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        return _middle(figure(drawn))


def sample_interval(
    figure: Callable[[np.ndarray], float], size: int, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Central 95 % interval of a metric that is not a function of sums, such as the area under a curve; `figure` maps
    drawn indices (size,) to it, NaN if undefined. NaN for fewer than two structures.
    """
    if size < 2:
        return NO_INTERVAL
    random = np.random.default_rng(seed)
    return _middle(np.array([figure(random.integers(0, size, size)) for _ in range(resamples)]))


def _middle(figures: np.ndarray) -> Interval:
    figures = figures[np.isfinite(figures)]
    if len(figures) == 0:
        return NO_INTERVAL
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
