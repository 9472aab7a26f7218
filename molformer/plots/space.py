"""Maps of chemical space: projections of molecular features to a plane. Letters: B molecules, F features."""

import numpy as np
from matplotlib.figure import Figure


def plane(features: np.ndarray, count: int = 2) -> np.ndarray:
    """The first principal components (B, count) of features (B, F), with features scaled to unit variance.

    Example:
        >>> plane(np.random.default_rng(0).standard_normal((10, 5))).shape
        (10, 2)
    """
    centered = features - features.mean(0)
    spread = centered.std(0)
    scaled = centered / np.where(spread > 1e-9 * spread.max(), spread, np.inf)
    left, size, _ = np.linalg.svd(scaled, full_matrices=False)
    return left[:, :count] * size[:count]


def feature_map(points: np.ndarray, values: np.ndarray, name: str, unit: str = "") -> Figure:
    """Scatter plot of points (B, 2) coloured by values (B,), clipped to the 2nd and 98th percentile; NaN is drawn grey.

    Example:
        >>> feature_map(np.zeros((3, 2)), np.arange(3.0), "gap", "eV").axes[1].get_ylabel()
        'gap [eV]'
    """
    figure = Figure(figsize=(5.2, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    known = np.isfinite(values)
    axes.scatter(points[~known, 0], points[~known, 1], s=5, color="0.8", linewidths=0, rasterized=True)
    low, high = np.percentile(values[known], [2, 98]) if known.any() else (0.0, 1.0)
    x, y = points[known].T
    dots = axes.scatter(x, y, c=values[known], s=7, cmap="viridis", vmin=low, vmax=high, linewidths=0, rasterized=True)
    figure.colorbar(dots, ax=axes, extend="both").set_label(f"{name} [{unit}]" if unit else name)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return figure
