"""Rows of predictions on the screen: those that have no values are counted, those that have are shown in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from molformer.cli.app import console

if TYPE_CHECKING:
    from molformer.data.structure import Label
    from molformer.inference.embed import Embedding
    from molformer.inference.prediction import Prediction


_COLUMNS = 5
"""Targets side by side; more are shown in further tables."""


class Failures:
    """Counts the rows without values."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = ""
        self.by_status: dict[str, int] = {}

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
        if status not in ("ok", "out_of_domain"):
            self.first = self.first or message
            self.by_status[status] = self.by_status.get(status, 0) + 1

    def summary(self) -> str:
        """One line; of a single failure, its message."""
        if self.count == 1:
            return self.first
        counts = ", ".join(f"{count} {status}" for status, count in self.by_status.items())
        return f"{self.count} of {self.rows} rows have no values ({counts}); the first: {self.first}"


def print_predictions(predictions: "list[Prediction]", targets: "Sequence[Label]") -> None:
    """Tables with a row for each prediction, and what went wrong below them."""
    from molformer.data.readers import is_file
    from molformer.inference.table import interval_line, screen_cells, screen_headings

    shown = [target for target in targets if not target.per_node]
    groups = [shown[start : start + _COLUMNS] for start in range(0, len(shown), _COLUMNS)] or [[]]
    for group in groups:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in ("input", "formula"):
            table.add_column(name, overflow="fold")
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
    values = [value for prediction in predictions for value in prediction.values.values()]
    if any(value.std is not None for value in values):
        console.print("±: standard deviation over conformers and models")
    if intervals := interval_line(predictions, targets):
        console.print(intervals)
    for prediction in predictions:
        if prediction.message:
            console.print(prediction.message)
