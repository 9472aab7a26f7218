"""Ball-and-stick image of a molecule, with atoms coloured by values.

Parallel projection along the shortest principal axis, painted from back to front. Letters: n atoms, E edges.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from molformer.elements import SYMBOLS
from molformer.structure import Structure

_RADII = {0: 0.3, 1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 15: 1.07, 16: 1.05, 17: 1.02}  # covalent, Å
_COLOURS = {1: "#ececec", 6: "#6a6a6a", 7: "#4a6fe0", 8: "#dc4030", 9: "#7cc456", 16: "#dcbc30", 17: "#48b848"}
_LIGHT = np.array([-0.35, 0.35])  # where a ball is brightest, as a share of its radius


def molecule(
    structure: Structure,
    values: Sequence[float] | np.ndarray | None = None,
    name: str = "",
    unit: str = "",
    edges: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    numbered: bool = False,
) -> Figure:
    """Ball-and-stick figure of a molecule.

    Args:
        structure: the molecule.
        values: of each atom (n,), blue below and red above zero, or white to red if none is negative. Without values,
            atoms have the colours of their elements.
        name: of the values.
        unit: of the values.
        edges: `src` (E,), `dst` (E,) and `weight` (E,) of edges to draw, with line widths by weight.
        numbered: label atoms by their index.

    Example:
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> len(molecule(water, [-0.6, 0.3, 0.3], "charge", "e").axes)
        2
    """
    pos = flattened(structure.pos)
    wide, high = np.ptp(pos[:, :2], axis=0) + 1.5
    figure = Figure(figsize=(5.2, float(np.clip(4.4 * high / wide, 1.8, 4.4))), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colours = [_COLOURS.get(int(number), "#be6ebe") for number in structure.numbers]
    if values is not None:
        numbers = np.asarray(values, dtype=float)
        most = max(float(np.abs(numbers).max()), 1e-12)
        signed = bool((numbers < 0).any())
        scale = ScalarMappable(Normalize(-most if signed else 0.0, most), "coolwarm" if signed else "Reds")
        colours = [to_hex(colour) for colour in scale.to_rgba(numbers)]
        bar = figure.colorbar(scale, ax=axes, shrink=0.75)
        bar.set_label(f"{name} [{unit}]" if unit else name)
    radii = np.array([0.2 + 0.3 * _RADII.get(int(number), 1.2) for number in structure.numbers])
    _paint_sticks(axes, structure.numbers, pos, radii)
    if edges is not None:
        _paint_links(axes, pos, *edges)
    _paint_balls(axes, pos, radii, colours)
    for place, (number, (x, y, z)) in enumerate(zip(structure.numbers.tolist(), pos.tolist(), strict=True)):
        text = f"{SYMBOLS[number]}{place}" if numbered else SYMBOLS[number]
        if number > 1 or numbered:
            ink = "black" if np.dot(to_rgb(colours[place]), (0.3, 0.59, 0.11)) > 0.45 else "white"
            axes.text(x, y, text, color=ink, ha="center", va="center", fontsize=8, zorder=2.0 + z / 1000 + 5e-4)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.margins(0.04)
    axes.axis("off")
    return figure


def flattened(pos: np.ndarray) -> np.ndarray:
    """Centered positions (n, 3) in the frame of their principal axes: widest along x, then y; z towards the viewer.

    The rotation is proper, and independent of the original orientation.

    Example:
        >>> flattened(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))[:, 0].round(3).tolist()
        [-1.0, 1.0]
    """
    centerd = np.asarray(pos, dtype=float) - np.mean(pos, axis=0)
    _, _, axes = np.linalg.svd(centerd, full_matrices=True)
    rotated = centerd @ axes.T
    signs = np.where((rotated[:, :2] ** 3).sum(0) < 0, -1.0, 1.0)
    if len(rotated) == 2:
        signs[0] = 1.0 if rotated[1, 0] > rotated[0, 0] else -1.0
    flips = np.array([*signs, signs.prod() * np.linalg.det(axes)])
    return rotated * flips


def bonds(numbers: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Pairs of atoms (·, 2) at bonding distance.

    Example:
        >>> bonds(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])).tolist()
        [[0, 1], [0, 2]]
    """
    radii = np.array([_RADII.get(int(number), 1.2) for number in numbers])
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    near = (distance < 1.25 * (radii[:, None] + radii)) & np.triu(np.ones_like(distance, dtype=bool), 1)
    return np.argwhere(near)


def _paint_sticks(axes: Axes, numbers: np.ndarray, pos: np.ndarray, radii: np.ndarray) -> None:
    for first, second in bonds(numbers, pos):
        arm = pos[second] - pos[first]
        length = np.linalg.norm(arm)
        ends = pos[first] + np.outer([0.9 * radii[first] / length, 1 - 0.9 * radii[second] / length], arm)
        depth = 2.0 + ends[:, 2].mean() / 1000
        axes.plot(ends[:, 0], ends[:, 1], color="0.6", linewidth=5, solid_capstyle="butt", zorder=depth)


def _paint_links(axes: Axes, pos: np.ndarray, src: np.ndarray, dst: np.ndarray, weight: np.ndarray) -> None:
    most = float(weight.max()) if len(weight) else 1.0
    for one, other, size in zip(src, dst, weight / most, strict=True):
        if size > 0.1:
            ends = pos[[one, other]]
            axes.plot(ends[:, 0], ends[:, 1], color="tab:purple", linewidth=3.5 * size, alpha=0.55 * size, zorder=3)


def _paint_balls(axes: Axes, pos: np.ndarray, radii: np.ndarray, colours: Sequence[str]) -> None:
    """Shaded balls: rings of increasing brightness towards the highlight."""
    for (x, y, z), radius, colour in zip(pos, radii, colours, strict=True):
        base = np.array(to_rgb(colour))
        depth = 2.0 + z / 1000
        axes.add_patch(
            Circle((x, y), radius, facecolor=0.72 * base, edgecolor=0.45 * base, linewidth=0.6, zorder=depth)
        )
        for share in np.linspace(0.05, 0.85, 12):
            shade = base * (0.75 + 0.25 * min(1.0, 1.6 * share)) + 0.45 * max(0.0, share - 0.5) * (1 - base)
            center = np.array([x, y]) + 0.8 * share * radius * _LIGHT
            axes.add_patch(Circle(tuple(center), radius * (1 - share), color=np.clip(shade, 0, 1), zorder=depth + 1e-5))
