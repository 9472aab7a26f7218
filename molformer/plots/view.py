"""Interactive 3-D view of a molecule in a notebook, with the viewer of the server's page; works offline."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from molformer.elements import SYMBOLS
from molformer.structure import Structure


@dataclass(frozen=True)
class MoleculeView:
    """HTML representation of an interactive view."""

    page: str  # self-contained HTML page
    width: int = 480  # pixels
    height: int = 360  # pixels

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" width="{self.width}" height="{self.height}" '
            'style="border: 0" sandbox="allow-scripts"></iframe>'
        )


def view(
    structure: Structure, values: Sequence[float] | np.ndarray | None = None, name: str = "", unit: str = ""
) -> MoleculeView:
    """Interactive view of a molecule; hovering over an atom shows its value.

    Args:
        structure: the molecule.
        values: a number of each atom (n,); blue below their middle and red above, or where some are below zero, below
            and above zero. Without them, atoms have the colours of their elements.
        name: of the values.
        unit: of the values.

    Example:
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> "iframe" in view(water, [-0.6, 0.3, 0.3], "charge", "e")._repr_html_()
        True
    """
    symbols = [SYMBOLS[number] for number in structure.numbers.tolist()]
    texts, shades = symbols, None
    if values is not None:
        numbers = np.asarray(values, dtype=float)
        middle = 0.0 if numbers.min() < 0 else (numbers.min() + numbers.max()) / 2
        most = max(float(np.abs(numbers - middle).max()), 1e-12)
        shades = ((numbers - middle) / most).round(4).tolist()
        texts = [
            f"{symbol}{place}: {value:.3g} {unit}"
            for place, (symbol, value) in enumerate(zip(symbols, numbers, strict=True))
        ]
    script = files("molformer.serving").joinpath("page/viewer.js").read_text(encoding="utf-8")
    geometry = {"symbols": symbols, "positions": structure.pos.round(4).tolist()}
    page = _PAGE.format(
        script=script.replace("export ", ""),
        geometry=json.dumps(geometry),
        shades=json.dumps(shades),
        texts=json.dumps(texts),
        title=html.escape(name),
    )
    return MoleculeView(page)


_PAGE = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0; font: 14px sans-serif; text-align: center; color: #333 }}</style>
<canvas id="view" width="960" height="640" style="width: 480px; height: 320px" tabindex="0"></canvas>
<div>{title} <b id="text"></b></div>
<script type="module">
{script}
const texts = {texts};
const viewer = new Viewer(document.getElementById("view"), (index) => {{
  document.getElementById("text").textContent = texts[index] ?? "";
}});
viewer.show({geometry});
viewer.colour({shades});
</script>
"""
