"""Errors of a model as a table for a terminal."""

from collections.abc import Mapping, Sequence
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.table import Table

from molformer.cli.app import console, new_table
from molformer.training.bootstrap import Interval
from molformer.training.classical import Classical
from molformer.training.target_errors import TargetErrors
from molformer.uncertainty.conformal import Coverage, coverage_table

LEGEND = (
    "MAE: mean absolute error over components; of a class, the fraction of wrong predictions\n"
    "95 %: bootstrap interval; baseline: the better of a constant and a least-squares fit to the composition"
)


def errors_table(errors: Sequence[TargetErrors], title: str) -> Table:
    """Table with a row for each target; empty columns are omitted."""
    columns = {
        "target": [row.target.name for row in errors],
        "unit": ["wrong" if row.target.is_class else row.target.unit for row in errors],
        "n": [str(row.count) for row in errors],
        "> <": [str(row.censored or "") for row in errors],
        "MAE": [_number(row.error) for row in errors],
        "95 %": [_interval(row.interval) for row in errors],
        "RMSE": [_number(row.rmse) for row in errors],
        "ROC-AUC": [_number(row.roc_auc, 3) for row in errors],
        "its 95 %": [_interval(row.roc_auc_interval) for row in errors],
        "mIoU": [_number(row.iou, 3) for row in errors],
        "baseline": [_number(_baseline(row)) for row in errors],
        "better by": [_gain(row) for row in errors],
    }
    caption = "> <: number of censored values, which no error includes" if any(columns["> <"]) else None
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = caption, "left"
    shown = [name for name in columns if any(columns[name]) or name == "target"]
    for name in shown:
        text = name in ("target", "unit")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for cells in zip(*(columns[name] for name in shown), strict=True):
        table.add_row(*cells)
    return table


def print_coverage(measured: Mapping[str, Coverage]) -> None:
    """Print a table of the empirical coverage and mean half-width of intervals, and of the domain."""
    if not measured:
        return
    first = next(iter(measured.values()))
    title = f"Intervals with a nominal coverage of {first.level:.0%}: empirical coverage, %, and mean half-width"
    headings, rows = coverage_table(measured)
    table = new_table(*headings, right=headings[1:], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(cell.replace(" ", "\n") for cell in row))
    console.print(table)
    console.print(
        "small, medium, large: thirds by number of atoms; narrow, middle, wide: thirds by half-width\n"
        f"Out of domain by expected error: {first.far:.1%} of the structures; error outside: theirs relative to others"
    )


def comparison_table(errors: Sequence[TargetErrors], seconds: float, methods: Sequence[Classical]) -> Table:
    """Table of the network, trained in so many seconds, and of classical methods, by target."""
    title, numbers = "The same split by classical methods", ("MAE", "RMSE", "ROC-AUC", "s")
    table = new_table("target", "method", *numbers, right=numbers, title=title, title_justify="left")
    for target in [row.target for row in errors]:
        for method in (Classical("network", list(errors), seconds), *methods):
            for row in (row for row in method.errors if row.target == target):
                figures = (_number(row.error), _number(row.rmse), _number(row.roc_auc, 3))
                table.add_row(target.name, method.method, *figures, f"{method.seconds:.0f}")
    return table


def _gain(row: TargetErrors) -> str:
    """Ratio of the baseline's error to that of the model."""
    return f"{_baseline(row) / row.error:.1f} ×" if row.error and not isnan(_baseline(row)) else ""


def _baseline(row: TargetErrors) -> float:
    known = [value for value in (row.error_composition, row.error_mean) if not isnan(value)]
    return min(known, default=float("nan"))


def _number(value: float, digits: int = 4) -> str:
    return "" if isnan(value) else f"{value:.{digits}g}"


def _interval(interval: Interval) -> str:
    return "" if isnan(interval[0]) else f"{interval[0]:.3g}–{interval[1]:.3g}"
