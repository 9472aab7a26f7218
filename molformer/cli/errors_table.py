"""Errors of a model as a table for a terminal."""

from collections.abc import Sequence
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from molformer.training.bootstrap import Interval
from molformer.training.target_errors import TargetErrors

LEGEND = (
    "MAE: mean absolute error, of a component where there are several; of a class, the share of wrong answers\n"
    "95 %: bootstrap interval; baseline: the better of one value for all and least squares on the composition"
)


def errors_table(errors: Sequence[TargetErrors], title: str) -> Table:
    """A row a target; columns that say nothing of any target are left out.

    Args:
        errors: of the targets.
        title: over the table.
    """
    columns = {
        "target": [row.target.name for row in errors],
        "unit": ["wrong" if row.target.is_class else row.target.unit for row in errors],
        "n": [str(row.count) for row in errors],
        "MAE": [_number(row.error) for row in errors],
        "95 %": [_interval(row.interval) for row in errors],
        "RMSE": [_number(row.rmse) for row in errors],
        "ROC-AUC": [_number(row.roc_auc, 3) for row in errors],
        "its 95 %": [_interval(row.roc_auc_interval) for row in errors],
        "mIoU": [_number(row.iou, 3) for row in errors],
        "baseline": [_number(_baseline(row)) for row in errors],
        "better by": [_gain(row) for row in errors],
    }
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [name for name in columns if any(columns[name]) or name == "target"]
    for name in shown:
        text = name in ("target", "unit")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for cells in zip(*(columns[name] for name in shown), strict=True):
        table.add_row(*cells)
    return table


def _gain(row: TargetErrors) -> str:
    """How much larger the error of the baseline is."""
    return f"{_baseline(row) / row.error:.1f} ×" if row.error and not isnan(_baseline(row)) else ""


def _baseline(row: TargetErrors) -> float:
    known = [value for value in (row.error_composition, row.error_mean) if not isnan(value)]
    return min(known, default=float("nan"))


def _number(value: float, digits: int = 4) -> str:
    return "" if isnan(value) else f"{value:.{digits}g}"


def _interval(interval: Interval) -> str:
    return "" if isnan(interval[0]) else f"{interval[0]:.3g}–{interval[1]:.3g}"
