"""Clouds of files: those that are one table of numbers, NPY and plain text, and any as structures.

Letters: n points, F further numbers of each.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from molformer.data.readers.entry import ReadOptions
from molformer.data.readers.files import open_bytes, open_text, read_npy
from molformer.errors import DAMAGE, InputError, one_line
from molformer.structure import Structure
from molformer.targets import Label

CLASS = "class"  # name of the label that says what a cloud shows


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points as a file has them."""

    pos: np.ndarray  # positions (n, 3), in the unit of the file
    features: np.ndarray | None = None  # normals, then colours, where the file has them (n, F)
    class_name: str = ""  # what the cloud shows; empty where the file does not say
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)  # further values by label name


def class_label(names: Sequence[str]) -> Label:
    """The label of a set of clouds of these classes."""
    return Label(CLASS, "", "category", classes=tuple(names))


def table_cloud(table: np.ndarray) -> Cloud:
    """Cloud of a table of numbers (n, 3+F): the position first.

    Raises:
        InputError: it is not such a table.

    Example:
        >>> table_cloud(np.zeros((5, 6))).features.shape
        (5, 3)
    """
    if table.ndim != 2 or table.shape[1] < 3 or table.dtype.kind not in "fiub":
        raise InputError(f"an array of shape {table.shape} and type {table.dtype} is not a cloud; use numbers (n, 3+F)")
    return Cloud(table[:, :3], table[:, 3:] if table.shape[1] > 3 else None)


def load_npy(path: Path, options: ReadOptions) -> Cloud:
    """Cloud of an NPY file of shape (n, 3+F); nothing is ever unpickled.

    Raises:
        InputError: the file is not one, or has another shape.
    """
    with open_bytes(path, options.max_bytes) as file:
        content = io.BytesIO(file.read())
    try:
        table = read_npy(content, len(content.getbuffer()))
    except DAMAGE as error:
        raise InputError(f"'{path}' is not a complete NPY file: {one_line(error)}") from None
    try:
        return table_cloud(table)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None


def load_text(path: Path, options: ReadOptions) -> Cloud:
    """Cloud of a text file: a point a line, numbers apart by blanks or commas; a first line with the count is checked.

    Raises:
        InputError: a line is not numbers, the lines differ in length, or the count is wrong.
    """
    with open_text(path, options.max_bytes) as file:
        lines = [line.replace(",", " ").split() for line in file if line.strip() and not line.startswith("#")]
    stated = lines.pop(0)[0] if lines and len(lines[0]) == 1 else str(len(lines))
    if stated != str(len(lines)):
        raise InputError(f"'{path}': the first line says {stated} points, there are {len(lines)}")
    if not lines:
        raise InputError(f"'{path}': the cloud has no points")
    for row, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]) or len(line) < 3:
            raise InputError(f"'{path}': point {row} has {len(line)} numbers; use x y z, and as many for every point")
    try:
        return table_cloud(np.array(lines, dtype=np.float64))
    except ValueError as error:
        raise InputError(f"'{path}': {one_line(error)}") from None


def cloud_structure(cloud: Cloud, where: str, wanted: Sequence[Label]) -> Structure:
    """A cloud as a structure of points without an element.

    Raises:
        InputError: there is no point, a number is not finite, or a class is unknown.
    """
    if len(cloud.pos) == 0:
        raise InputError(f"{where}: the cloud has no points")
    for name, values in (("position", cloud.pos), ("features", cloud.features)):
        bad = np.zeros(0) if values is None else np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise InputError(f"{where}: the {name} of point {bad[0] + 1} has a number that is not finite")
    labels = {}
    for label in wanted:
        value = _class_index(cloud, label, where) if label.name == CLASS else cloud.labels.get(label.name)
        if value is not None:
            labels[label.name] = np.asarray(value, dtype=np.float64)
    numbers = np.zeros(len(cloud.pos), dtype=np.int64)
    return Structure(numbers, cloud.pos, features=cloud.features, name=where, labels=labels)


def _class_index(cloud: Cloud, label: Label, where: str) -> int | None:
    if not cloud.class_name:
        return None
    if cloud.class_name not in label.classes:
        raise InputError(f"{where}: class '{cloud.class_name}' is not one of {', '.join(label.classes)}")
    return label.classes.index(cloud.class_name)
