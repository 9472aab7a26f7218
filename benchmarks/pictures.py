"""The pictures of the documentation: a molecule as a model sees it, and errors against what others reach.

`python -m benchmarks.pictures` draws both again into `docs/`. The first is computed, from a model that `--model` names;
the second is drawn from the results of `benchmarks.accuracy`, which are stored in `docs/accuracy.json`. Letters: n
atoms, E edges.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molformer.inference.predictor import Predictor
from molformer.plots import molecule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
SMILES = "CC(=O)Nc1ccc(O)cc1"
"""Paracetamol."""


def attention_picture(model: Predictor, smiles: str = SMILES) -> "Figure":
    """A molecule, each atom as red as others listen to it, with the strongest links."""
    attention = model.attention(smiles)
    pairs = np.unique(np.sort(np.stack([attention.src, attention.dst]), axis=0), axis=1)
    mean = attention.weights.mean((0, 2))
    both = np.sort(np.stack([attention.src, attention.dst]), axis=0)
    strength = np.array([mean[(both == pair[:, None]).all(0)].sum() for pair in pairs.T])
    return molecule(
        attention.structure, attention.received(), "attention received", edges=(pairs[0], pairs[1], strength)
    )


def accuracy_picture(rows: list[dict[str, object]]) -> "Figure":
    """Errors as shares of those of the mean: ours with intervals, and the best baseline.

    Args:
        rows: `name`, `mean`, `best` (of the baselines), `ours` and the ends `low` and `high` of its interval.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.9 + 0.3 * len(rows)), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        mean, best, ours, low, high = (float(row[key]) for key in ("mean", "best", "ours", "low", "high"))  # type: ignore[arg-type]
        first = {"label": "molformer, 95 % interval"} if place == 0 else {}
        other = {"label": "best baseline"} if place == 0 else {}
        axes.plot([low / mean, high / mean], [place, place], color="tab:blue", linewidth=5, alpha=0.4)
        axes.plot(ours / mean, place, "o", color="tab:blue", **first)
        axes.plot(best / mean, place, "D", color="tab:orange", markersize=5, **other)
    axes.axvline(1.0, color="0.6", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [str(row["name"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("error on the test part, as a share of that of one value for all")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    return figure


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qm9", help="a shipped name or a folder")
    parser.add_argument("--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    attention_picture(Predictor.load(arguments.model)).savefig(arguments.output / "attention.png")
    rows = json.loads((DOCS / "accuracy.json").read_text(encoding="utf-8"))
    accuracy_picture(rows).savefig(arguments.output / "accuracy.png")


if __name__ == "__main__":
    main()
