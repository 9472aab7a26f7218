"""Predictions as tables on a terminal, and a count of inputs that failed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from molformer.cli.app import console, new_table

if TYPE_CHECKING:
    from molformer.inference.embeddings import Embedding
    from molformer.inference.prediction import Prediction, Value
    from molformer.targets import Label


_COLUMNS = 5  # largest number of targets in a table; more are shown in further tables

_WIDTH = 42  # characters of the headings of a table, so that inputs and numbers fit a terminal beside each other


class Failures:
    """Counter of rows without values."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = ""
        self.by_status: dict[str, int] = {}
        self.unknown = False

    @property
    def count(self) -> int:
        """Rows without values."""
        return sum(self.by_status.values())

    def look_at(self, row: "Prediction | Embedding") -> None:
        """Count a row."""
        self.count_status(row.status, row.message)

    def count_status(self, status: str, message: str) -> None:
        """Count a row with a status; of one without values, the message says why."""
        self.rows += 1
        self.unknown = self.unknown or status in ("unsupported_element", "out_of_domain")
        if status not in ("ok", "out_of_domain"):
            self.first = self.first or message
            self.by_status[status] = self.by_status.get(status, 0) + 1

    def summary(self) -> str:
        """Summary in one line; the message of a single failure."""
        if self.count == 1:
            return self.first
        counts = ", ".join(f"{count} {status}" for status, count in self.by_status.items())
        return f"{self.count} of {self.rows} rows have no values ({counts}); the first: {self.first}"


def print_predictions(
    predictions: "list[Prediction]", targets: "Sequence[Label]", known: "Mapping[str, str]" = MappingProxyType({})
) -> None:
    """Print what each model predicts: tables with a row for each molecule, a list for a single one; then messages.

    Args:
        predictions: the rows.
        targets: to print.
        known: what the models know, see `Predictor.known`.
    """
    in_tables: list[Prediction] = []
    for model in dict.fromkeys(prediction.model for prediction in predictions):
        rows = [prediction for prediction in predictions if prediction.model == model]
        named = {name for row in rows for name in row.values}
        shown = [target for target in targets if not target.per_node and (target.name in named or not model)]
        if model or known.get(model):
            console.print(f"Model {model}".rstrip() + (f" of {known[model]}" if known.get(model) else ""))
        if len(rows) == 1 and len(shown) > _COLUMNS and rows[0].values:
            _print_list(rows[0], shown)
        else:
            _print_tables(rows, shown)
            in_tables += rows
    values = [value for prediction in predictions for value in prediction.values.values()]
    if any(value.std is not None for value in values):
        console.print("±: standard deviation over conformers and models")
    if intervals := interval_line(in_tables, targets):
        console.print(intervals)
    for prediction in predictions:
        if prediction.message:
            console.print(prediction.message)


def _print_list(row: "Prediction", targets: "Sequence[Label]") -> None:
    table = new_table()
    formula = row.structure.formula if row.structure else ""
    table.add_column(f"{row.name}\n{formula}", overflow="fold")
    table.add_column(f"\n{row.status}", justify="right", no_wrap=True)
    table.add_column("90 %", justify="right", no_wrap=True)
    table.add_column("unit")
    for target in targets:
        interval = row.values[target.name].interval if target.name in row.values else None
        width = "" if interval is None or target.shape else f"±{float(interval[1] - interval[0]) / 2:.2g}"
        name = f"|{target.name}|" if target.shape else target.name
        table.add_row(name, *screen_cells(row.values, [target]), width, target.unit)
    console.print(table)


def _print_tables(predictions: "Sequence[Prediction]", targets: "Sequence[Label]") -> None:
    from molformer.data.readers import is_file

    groups: list[list[Label]] = [[]]
    used = 0
    for target in targets:
        cells = [cell for each in predictions for cell in screen_cells(each.values, [target])]
        width = max(len(target.name), 7, *map(len, cells)) + 3
        if groups[-1] and (used + width > _WIDTH or len(groups[-1]) == _COLUMNS):
            groups.append([])
            used = 0
        groups[-1].append(target)
        used += width
    for group in groups:
        table = new_table("input", "formula")
        for name in screen_headings(group):
            table.add_column(name, justify="right", no_wrap=True)
        if group is groups[0]:
            table.add_column("status", no_wrap=True)
        for prediction in predictions:
            formula = prediction.structure.formula if prediction.structure else ""
            name = Path(prediction.name).name if is_file(prediction.name) else prediction.name
            status = [prediction.status] if group is groups[0] else []
            table.add_row(name, formula, *screen_cells(prediction.values, group), *status)
        console.print(table)


def screen_headings(targets: "Sequence[Label]") -> list[str]:
    """Column headings of the tables."""
    shown = [target for target in targets if not target.per_node]
    return [f"|{target.name}|\n{target.unit}" if target.shape else f"{target.name}\n{target.unit}" for target in shown]


def screen_cells(values: "Mapping[str, Value]", targets: "Sequence[Label]") -> list[str]:
    """Cells in the order of `screen_headings`; empty for a prediction without values."""
    return [_on_screen(target, values.get(target.name)) for target in targets if not target.per_node]


def interval_line(rows: "Iterable[Prediction]", targets: "Sequence[Label]") -> str:
    """Line with the smallest and largest half-widths of the intervals of all rows; empty if there are none."""
    rows = list(rows)
    widths: dict[str, str] = {}
    for target in targets:
        if not target.shape and not target.per_node:
            found = [row.values[target.name] for row in rows if target.name in row.values]
            known = [float(one.interval[1] - one.value) for one in found if one.interval is not None]
            if known:
                extremes = dict.fromkeys(f"±{width:.2g}" for width in (min(known), max(known)))
                widths[target.name] = f"{' to '.join(extremes)} {target.unit}".rstrip()
    if not widths:
        return ""
    listed = ", ".join(f"{name} {width}" for name, width in widths.items())
    without = [row for row in rows if row.status == "ok" and all(one.interval is None for one in row.values.values())]
    other = "; none for geometries of another origin than in training" if without else ""
    return f"90 % intervals: {listed}{other}"


def _on_screen(target: "Label", value: "Value | None") -> str:
    if value is None:
        return ""
    if target.classes:
        best = int(value.value.argmax())
        return f"{target.classes[best]} {100 * value.value[best]:.0f} %"
    if target.shape:
        return f"{math.hypot(*value.value.ravel()):.3f}"
    if value.std is not None:
        return f"{float(value.value):.3f} ± {float(value.std):.3f}"
    return f"{float(value.value):.3f}"
