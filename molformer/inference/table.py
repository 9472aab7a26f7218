"""Predictions, the list of all rows, and its layout as a table.

A scalar is one column. Of a vector or tensor, a terminal shows the norm and a file has the components, which depend on
the orientation of the geometry. Of a category, a terminal shows the most probable class, and a file has all
probabilities. Per-atom values are only in files, in the order of the atoms; classes of atoms by index.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from molformer.errors import InputError, extra
from molformer.inference.prediction import Prediction, Value
from molformer.targets import Label

if TYPE_CHECKING:
    from pandas import DataFrame

Cell = str | float | list[float] | None

FACTS = ("input", "formula", "status", "message")  #: the first columns of every table

PERCENTILE = "distance percentile"


@dataclass(frozen=True)
class Layout:
    """The columns of a table of predictions."""

    targets: tuple[Label, ...]  #: with the units of the values
    conformers: bool = False  #: whether there are standard deviations over conformers
    ensemble: bool = False  #: whether there are standard deviations over models
    intervals: frozenset[str] = frozenset()  #: names of the targets with intervals
    percentile: bool = False  #: whether there are percentiles of expected errors
    models: bool = False  #: whether rows say which model answered

    @classmethod
    def of(cls, rows: Iterable[Prediction], targets: Sequence[Label]) -> "Layout":
        """The columns that are not empty in all rows."""
        rows = list(rows)
        values = [(name, value) for row in rows for name, value in row.values.items()]
        return cls(
            tuple(targets),
            any(value.conformer_std is not None for _, value in values),
            any(value.ensemble_std is not None for _, value in values),
            frozenset(name for name, value in values if value.interval is not None),
            any(row.percentile is not None for row in rows),
            any(row.model for row in rows),
        )

    @property
    def headings(self) -> list[str]:
        """Names of the columns, with units in parentheses."""
        of_targets = [heading for target in self.targets for heading in self._headings(target)]
        return [*FACTS, *["model"] * self.models, *of_targets, *[PERCENTILE] * self.percentile]

    @property
    def types(self) -> list[str]:
        """Types of the columns: `text`, `number` or `list`, of per-atom values."""
        of_targets = []
        for target in self.targets:
            first = "list" if target.per_node else "text" if target.classes else "number"
            of_targets += [first, *["number"] * (len(self._headings(target)) - 1)]
        return [*["text"] * (len(FACTS) + self.models), *of_targets, *["number"] * self.percentile]

    def cells(self, row: Prediction) -> list[Cell]:
        """Cells of a row in the order of `headings`; None where there is no value."""
        formula = row.structure.formula if row.structure else ""
        of_targets = [cell for target in self.targets for cell in self._cells(target, row.values.get(target.name))]
        facts = [row.name, formula, row.status, row.message, *[row.model] * self.models]
        return [*facts, *of_targets, *[row.percentile] * self.percentile]

    def _uncertainties(self, target: Label) -> list[str]:
        """Columns of the uncertainties of a scalar; empty for other targets."""
        if target.classes or target.shape or target.per_node:
            return []
        uncertainties = [("conformer_std", self.conformers), ("ensemble_std", self.ensemble)]
        bounds = ["low", "high"] if target.name in self.intervals else []
        return [name for name, known in uncertainties if known] + bounds

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
        return [first, *(f"{target.name}_{name}{unit}" for name in self._uncertainties(target))]

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
        uncertainties = [known[name] for name in self._uncertainties(target)]
        return [*numbers, *(None if one is None else float(one) for one in uncertainties)]


def text_of(cell: Cell) -> str:
    """A cell as text: numbers with ten digits, per-atom values separated by blanks, and an empty text for None."""
    if isinstance(cell, list):
        return " ".join(f"{number:.10g}" for number in cell)
    return "" if cell is None else f"{cell:.10g}" if isinstance(cell, float) else cell


SHOWN_ROWS = 20
"""Number of rows in the representation of predictions."""


class Predictions(list[Prediction]):
    """Rows in the order of the inputs, one for each, also for inputs that failed.

    The values of a single row can be indexed directly: `model.predict("CCO")["gap"]`.

    Args:
        rows: the rows.
        targets: with the units of the values.
    """

    def __init__(self, rows: Iterable[Prediction] = (), targets: Iterable[Label] = ()) -> None:
        super().__init__(rows)
        self.targets = tuple(targets)

    def __repr__(self) -> str:
        statuses = Counter(row.status for row in self)
        counts = ", ".join(f"{number} {status}" for status, number in statuses.items())
        lines = [f"{type(self).__name__}({counts})", *(f"  {row}" for row in self[:SHOWN_ROWS])]
        return "\n".join([*lines, *(["  …"] if len(self) > SHOWN_ROWS else [])])

    @overload
    def __getitem__(self, place: str) -> Value: ...
    @overload
    def __getitem__(self, place: SupportsIndex) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> "Predictions": ...
    def __getitem__(self, place: Any) -> Any:
        """A row, some rows, or a value of the only row.

        Raises:
            InputError: a target is requested from several rows, or from one without values.
        """
        if isinstance(place, str):
            if len(self) != 1:
                raise InputError(f"there are {len(self)} rows: choose one first, as in predictions[0]['{place}']")
            return super().__getitem__(0)[place]
        chosen = super().__getitem__(place)
        return Predictions(chosen, self.targets) if isinstance(place, slice) else chosen

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary of plain values for each row; None where there is no value."""
        layout = Layout.of(self, self.targets)
        return [dict(zip(layout.headings, layout.cells(row), strict=True)) for row in self]

    def to_frame(self) -> "DataFrame":
        """A pandas data frame with a row for each input.

        Raises:
            ConfigError: pandas is not installed.
        """
        with extra("pandas", "tables need pandas"):
            import pandas

        layout = Layout.of(self, self.targets)
        return pandas.DataFrame([layout.cells(row) for row in self], columns=layout.headings)
