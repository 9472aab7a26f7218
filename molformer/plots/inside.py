"""Matrices inside a model as images. Letters: n atoms, H heads, M = (lmax+1)² components."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from molformer.elements import SYMBOLS

if TYPE_CHECKING:
    from molformer.inference.attention_weights import Attention


def attention_matrix(attention: "Attention", layer: int, head: int | None = None) -> Figure:
    """Attention matrix of `Predictor.attention`, targets as rows, sources as columns; of a head, or the mean of all."""
    figure = Figure(figsize=(4.8, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(attention.matrix(layer, head), cmap="Purples", vmin=0)
    names = [f"{SYMBOLS[number]}{place}" for place, number in enumerate(attention.structure.numbers.tolist())]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("source")
    axes.set_ylabel("target")
    figure.colorbar(picture, ax=axes, shrink=0.8).set_label("attention")
    return figure


def block_matrix(matrix: np.ndarray, title: str = "") -> Figure:
    """A matrix (M, M) between the components (l, m) of features at index l² + l + m, with lines between the degrees.

    Example:
        >>> block_matrix(np.eye(9), "D(R)").axes[0].get_title()
        'D(R)'
    """
    figure = Figure(figsize=(3.9, 3.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    most = max(float(np.abs(matrix).max()), 1e-12)
    picture = axes.imshow(matrix, cmap="coolwarm", vmin=-most, vmax=most)
    degrees = range(round(len(matrix) ** 0.5))
    for degree in degrees[1:]:
        axes.axhline(degree**2 - 0.5, color="0.3", linewidth=0.8)
        axes.axvline(degree**2 - 0.5, color="0.3", linewidth=0.8)
    middles = [degree**2 + degree for degree in degrees]
    axes.set_xticks(middles, [f"l={degree}" for degree in degrees])
    axes.set_yticks(middles, [f"l={degree}" for degree in degrees])
    axes.set_title(title)
    figure.colorbar(picture, ax=axes, shrink=0.8)
    return figure
