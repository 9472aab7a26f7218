"""Predictions as rows of a table.

A number is one column; a vector or tensor is its length on a screen and its components in a file, because they mean
something only in the frame of the geometry; a category is its likeliest class, in a file with all probabilities; values
per atom appear in files alone, in the order of the atoms.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from molformer.data.structure import Label
from molformer.errors import InputError
from molformer.inference.predictor import Prediction, Value


def columns(targets: Sequence[Label]) -> list[str]:
    """Headings of the columns that a screen shows."""
    shown = [target for target in targets if _on_screen(target)]
    return [f"|{target.name}|\n{target.unit}" if target.shape else f"{target.name}\n{target.unit}" for target in shown]


def cells(values: Mapping[str, Value], targets: Sequence[Label]) -> list[str]:
    """The cells under `columns(targets)`; empty where a prediction has no values."""
    return [_cell(target, values.get(target.name)) for target in targets if _on_screen(target)]


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


def _on_screen(target: Label) -> bool:
    return not target.per_node


def _cell(target: Label, value: Value | None) -> str:
    if value is None:
        return ""
    if target.kind == "category":
        best = int(value.value.argmax())
        return f"{target.classes[best]} {100 * value.value[best]:.0f} %"
    return f"{float(np.linalg.norm(value.value)) if target.shape else float(value.value):.3f}"


def _headings(target: Label) -> list[str]:
    if target.kind == "vector":
        return [f"{target.name}_{part} ({target.unit})" for part in ("x", "y", "z", "norm")]
    if target.shape == (3, 3):
        return [f"{target.name}_{a}{b} ({target.unit})" for a in "xyz" for b in "xyz"]
    if target.kind == "category":
        return [target.name, *(f"p({name})" for name in target.classes)]
    if target.kind == "binary":
        return [f"p({target.name})"]
    return [f"{target.name} ({target.unit})" if target.unit else target.name]


def _texts(target: Label, value: Value | None) -> list[str]:
    if value is None:
        return [""] * len(_headings(target))
    numbers = [f"{number:.6f}" for number in value.value.ravel()]
    if target.kind == "vector":
        return [*numbers, f"{np.linalg.norm(value.value):.6f}"]
    if target.kind == "category":
        return [target.classes[int(value.value.argmax())], *numbers]
    return [" ".join(numbers)] if target.per_node else numbers
