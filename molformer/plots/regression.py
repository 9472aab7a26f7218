"""Figures of regression targets: parity plots, prediction intervals and learning curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from molformer.errors import InputError

if TYPE_CHECKING:
    from molformer.inference.prediction import Prediction

_MOST_POINTS = 20_000  # more overlap and are slow to draw


def parity(
    label: np.ndarray,
    prediction: np.ndarray,
    name: str,
    unit: str = "",
    error: float | None = None,
    half_width: float | None = None,
) -> Figure:
    """Parity plot of predictions against labels.

    Args:
        label: true values, any shape; NaN where missing.
        prediction: of the same shape.
        name: of the target.
        unit: of both.
        error: mean absolute error to be written in the picture.
        half_width: of the intervals, which are drawn as a band about the diagonal.

    Example:
        >>> parity(np.array([1.0, 2.0]), np.array([1.1, 1.9]), "gap", "eV").axes[0].get_xlabel()
        'gap [eV]'
    """
    figure = Figure(figsize=(4.2, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    x, y = label.ravel(), prediction.ravel()
    there = np.isfinite(x) & np.isfinite(y)
    x, y = x[there], y[there]
    if len(x) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(x), _MOST_POINTS, replace=False)
        x, y = x[chosen], y[chosen]
    axes.scatter(x, y, s=6, alpha=0.4, linewidths=0, color="tab:blue", rasterized=True)
    if len(x):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color="0.4", linewidth=0.8)
        if half_width is not None:
            low, high = np.array(ends) - half_width, np.array(ends) + half_width
            axes.fill_between(ends, low, high, color="tab:orange", alpha=0.2, linewidth=0)
    suffix = f" [{unit}]" if unit else ""
    axes.set_xlabel(f"{name}{suffix}")
    axes.set_ylabel(f"predicted{suffix}")
    axes.set_aspect("equal", adjustable="datalim")
    if error is not None:
        text = f"MAE {error:.4g}{' ' + unit if unit else ''}\nn = {there.sum():,}"
        axes.text(0.04, 0.96, text, transform=axes.transAxes, verticalalignment="top")
    return figure


def learning_curve(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Losses of the training and validation part by epoch, from rows of `metrics.csv`, see `read_metrics`.

    Example:
        >>> learning_curve([{"epoch": 0, "train/loss": 1.0, "val/loss": 1.2}]).axes[0].get_ylabel()
        'loss'
    """
    figure = Figure(figsize=(5.2, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for key, text in (("train/loss", "training"), ("val/loss", "validation, averaged weights")):
        there = [row for row in rows if key in row]
        axes.plot([row["epoch"] + 1 for row in there], [row[key] for row in there], marker=".", label=text)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    if rows and min(row.get(key, 1.0) for row in rows for key in ("train/loss", "val/loss")) > 0:
        axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def intervals(rows: "Sequence[Prediction]", target: str) -> Figure:
    """Predicted values of a target with prediction intervals, a line for each molecule; hollow points have no interval.

    Raises:
        InputError: no row has a value.
    """
    there = [row for row in rows if row.values]
    if not there:
        raise InputError("no row has a value: there is nothing to draw")
    figure = Figure(figsize=(5.6, 0.8 + 0.32 * len(there)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(there):
        value = row[target]
        known = value.interval is not None
        if value.interval is not None:
            axes.plot([float(end) for end in value.interval], [place, place], color="tab:blue", alpha=0.4, linewidth=4)
        axes.plot(float(value), place, "o", color="tab:blue", markerfacecolor="tab:blue" if known else "white")
    unit = there[0][target].unit
    axes.set_yticks(range(len(there)), [row.name for row in there])
    axes.set_xlabel(f"{target} [{unit}]" if unit else target)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    return figure
