"""Predictions as rows of a table: the columns that there are, and their cells.

A number is one column; a vector or tensor is its length on a screen and its components in a file, because they mean
something only in the frame of the geometry; a category is its likeliest class, in a file with all probabilities; values
per atom appear in files alone, in the order of the atoms, classes of atoms as their places among the classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molformer.data.structure import Label
from molformer.inference.prediction import Prediction, Value

Cell = str | float | list[float] | None

FACTS = ("input", "formula", "status", "message")
"""The first columns of every table."""

PERCENTILE = "distance percentile"


@dataclass(frozen=True)
class Layout:
    """The columns of a table of predictions.

    Args:
        targets: what is predicted, in the units of the values.
        conformers: whether there are spreads over conformers.
        ensemble: whether there are spreads over models.
        intervals: names of the targets with intervals.
        percentile: whether the distance to the training set is known.
    """

    targets: tuple[Label, ...]
    conformers: bool = False
    ensemble: bool = False
    intervals: frozenset[str] = frozenset()
    percentile: bool = False

    @classmethod
    def of(cls, rows: Iterable[Prediction], targets: Sequence[Label]) -> "Layout":
        """The columns for which at least one row has something to say."""
        rows = list(rows)
        values = [(name, value) for row in rows for name, value in row.values.items()]
        return cls(
            tuple(targets),
            any(value.conformer_std is not None for _, value in values),
            any(value.ensemble_std is not None for _, value in values),
            frozenset(name for name, value in values if value.interval is not None),
            any(row.percentile is not None for row in rows),
        )

    @property
    def headings(self) -> list[str]:
        """Names of the columns, units in brackets."""
        of_targets = [heading for target in self.targets for heading in self._headings(target)]
        return [*FACTS, *of_targets, *([PERCENTILE] if self.percentile else [])]

    @property
    def types(self) -> list[str]:
        """What stands in the columns: `text`, `number` or `list`, the numbers of atoms."""
        of_targets = []
        for target in self.targets:
            first = "list" if target.per_node else "text" if target.classes else "number"
            of_targets += [first, *["number"] * (len(self._headings(target)) - 1)]
        return [*["text"] * len(FACTS), *of_targets, *(["number"] if self.percentile else [])]

    def cells(self, row: Prediction) -> list[Cell]:
        """The cells of a row, under `headings`; None where it has nothing to say."""
        formula = row.structure.formula if row.structure else ""
        of_targets = [cell for target in self.targets for cell in self._cells(target, row.values.get(target.name))]
        return [row.name, formula, row.status, row.message, *of_targets, *([row.percentile] if self.percentile else [])]

    def _doubts(self, target: Label) -> list[str]:
        """Which doubts have a column: those of numbers."""
        if target.classes or target.shape or target.per_node:
            return []
        doubts = [("conformer_std", self.conformers), ("ensemble_std", self.ensemble)]
        bounds = ["low", "high"] if target.name in self.intervals else []
        return [name for name, there in doubts if there] + bounds

    def _headings(self, target: Label) -> list[str]:
        unit = f" ({target.unit})" if target.unit else ""
        if target.per_node:
            return [f"{target.name}{unit}"]
        if target.classes:
            return [target.name, *(f"p({name})" for name in target.classes)]
        if target.shape:
            parts = [*target.target_kind.components, *["norm"] * (len(target.shape) == 1)]
            return [f"{target.name}_{part}{unit}" for part in parts]
        first = f"p({target.name})" if target.is_class else f"{target.name}{unit}"
        return [first, *(f"{target.name}_{doubt}{unit}" for doubt in self._doubts(target))]

    def _cells(self, target: Label, value: Value | None) -> list[Cell]:
        if value is None:
            return [None] * len(self._headings(target))
        numbers = [float(number) for number in value.value.ravel()]
        if target.per_node:
            return [[float(place) for place in value.value.argmax(-1)] if target.classes else numbers]
        if target.classes:
            return [target.classes[int(value.value.argmax())], *numbers]
        if len(target.shape) == 1:
            return [*numbers, float(np.linalg.norm(value.value))]
        low, high = value.interval or (None, None)
        known = {"conformer_std": value.conformer_std, "ensemble_std": value.ensemble_std, "low": low, "high": high}
        doubts = [known[doubt] for doubt in self._doubts(target)]
        return [*numbers, *(None if doubt is None else float(doubt) for doubt in doubts)]


def text_of(cell: Cell) -> str:
    """A cell as text: ten digits of a number, blanks between the numbers of atoms, nothing where there is nothing."""
    if isinstance(cell, list):
        return " ".join(f"{number:.10g}" for number in cell)
    return "" if cell is None else f"{cell:.10g}" if isinstance(cell, float) else cell


def records(rows: Iterable[Prediction], layout: Layout) -> list[dict[str, Any]]:
    """Plain values, a dictionary for each row."""
    headings = layout.headings
    return [dict(zip(headings, layout.cells(row), strict=True)) for row in rows]


def screen_headings(targets: Sequence[Label]) -> list[str]:
    """Headings of the columns that a screen shows."""
    shown = [target for target in targets if not target.per_node]
    return [f"|{target.name}|\n{target.unit}" if target.shape else f"{target.name}\n{target.unit}" for target in shown]


def screen_cells(values: Mapping[str, Value], targets: Sequence[Label]) -> list[str]:
    """The cells under `screen_headings`; empty where a prediction has no values."""
    return [_on_screen(target, values.get(target.name)) for target in targets if not target.per_node]


def interval_line(rows: Iterable[Prediction], targets: Sequence[Label]) -> str:
    """The intervals of the numbers on a screen, which are as wide for every row, in a line; empty if there are none."""
    rows = list(rows)
    widths = {}
    for target in targets:
        if not target.shape and not target.per_node:
            found = [row.values[target.name] for row in rows if target.name in row.values]
            known = [float(one.interval[1] - one.value) for one in found if one.interval is not None]
            if known:
                widths[target] = max(known)
    if not widths:
        return ""
    listed = ", ".join(f"{target.name} ±{width:.2g} {target.unit}".rstrip() for target, width in widths.items())
    without = [row for row in rows if row.status == "ok" and all(one.interval is None for one in row.values.values())]
    other = "; none where a geometry is of another origin than in training" if without else ""
    return f"90 % intervals: {listed}{other}"


def _on_screen(target: Label, value: Value | None) -> str:
    if value is None:
        return ""
    if target.classes:
        best = int(value.value.argmax())
        return f"{target.classes[best]} {100 * value.value[best]:.0f} %"
    if target.shape:
        return f"{float(np.linalg.norm(value.value)):.3f}"
    doubt = value.std
    if doubt is not None:
        return f"{float(value.value):.3f} ± {float(doubt):.3f}"
    return f"{float(value.value):.3f}"
