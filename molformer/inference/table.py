"""Predictions as rows of a table.

A number is one column; a vector is its length on a screen and its components too in a file, because its direction
means something only in the frame of the geometry; values per atom appear in files alone, in the order of the atoms.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from molformer.data.structure import Label
from molformer.errors import InputError
from molformer.inference.predictor import Prediction, Value


def columns(values: Mapping[str, Value]) -> list[str]:
    """Headings of the columns that a screen shows."""
    return [
        f"{name}\n{value.unit}" if value.value.ndim == 0 else f"|{name}|\n{value.unit}"
        for name, value in values.items()
        if _on_screen(value)
    ]


def cells(values: Mapping[str, Value], targets: Mapping[str, Value]) -> list[str]:
    """The cells under `columns(targets)`; empty where a prediction has no values."""
    shown = [name for name, value in targets.items() if _on_screen(value)]
    return [_cell(values.get(name)) for name in shown]


def write_csv(path: Path, predictions: Iterable[Prediction], targets: Sequence[Label]) -> None:
    """Write a CSV file with a row for each prediction; it appears whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            headings = [heading for target in targets for heading in _headings(target)]
            writer.writerow(["input", "formula", "status", "message", *headings])
            for row in predictions:
                formula = row.structure.formula if row.structure else ""
                values = [text for target in targets for text in _texts(target, row.values.get(target.name))]
                writer.writerow([row.name, formula, row.status, row.message, *values])
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write '{path}': {error.strerror}") from None


def _on_screen(value: Value) -> bool:
    return value.value.ndim == 0 or value.value.shape == (3,)


def _cell(value: Value | None) -> str:
    if value is None:
        return ""
    return f"{float(np.linalg.norm(value.value)) if value.value.ndim else float(value.value):.3f}"


def _headings(target: Label) -> list[str]:
    if target.kind == "vector":
        return [f"{target.name}_{part} ({target.unit})" for part in ("x", "y", "z", "norm")]
    return [f"{target.name} ({target.unit})"]


def _texts(target: Label, value: Value | None) -> list[str]:
    if value is None:
        return [""] * len(_headings(target))
    if target.kind == "vector":
        return [f"{number:.6f}" for number in (*value.value, np.linalg.norm(value.value))]
    if target.per_node:
        return [" ".join(f"{number:.6f}" for number in value.value.ravel())]
    return [f"{float(value.value):.6f}"]
