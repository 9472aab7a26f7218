"""Clouds that are one table of numbers (n, 3+F): NPY files and plain text, the position first."""

import io
from pathlib import Path

import numpy as np

from molformer.data.readers.cloud import Cloud, table_cloud
from molformer.data.readers.entry import ReadOptions
from molformer.data.readers.files import open_bytes, open_text, read_npy
from molformer.errors import DAMAGE, InputError, one_line


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
