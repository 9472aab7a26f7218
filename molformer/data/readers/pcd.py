"""PCD files of the Point Cloud Library, version 0.7, text or binary.

A header names the fields of a point, their sizes, types and counts; the points follow, one a line or one a record.
"""

import re
from pathlib import Path

import numpy as np

from molformer.data.readers.cloud import Cloud
from molformer.data.readers.entry import ReadOptions
from molformer.data.readers.files import open_bytes
from molformer.errors import DAMAGE, InputError, one_line

_NORMALS = ("normal_x", "normal_y", "normal_z")
_TYPES = {"F": "f", "I": "i", "U": "u"}


def load(path: Path, options: ReadOptions) -> Cloud:
    """Cloud of a file, with normals and colours where it has them.

    Raises:
        InputError: it is not a PCD file, is compressed, or has not as many points as it says.
    """
    with open_bytes(path, options.max_bytes) as file:
        content = file.read()
    found = re.search(rb"^DATA[ \t]+(\w+)[ \t]*\r?\n", content, re.MULTILINE)
    if found is None:
        raise InputError(f"'{path}' is not a PCD file: its header has no line DATA")
    header = _header(content[: found.start()])
    try:
        return _cloud(_points(header, found[1].decode().lower(), content[found.end() :]))
    except (KeyError, IndexError) as error:
        raise InputError(f"'{path}': the header has no {error}") from None
    except (*DAMAGE, InputError) as error:
        raise InputError(f"'{path}' is not a complete PCD file: {one_line(error)}") from None


def _header(text: bytes) -> dict[str, list[str]]:
    lines = [line.split() for line in text.decode("ascii", errors="replace").splitlines()]
    return {line[0]: line[1:] for line in lines if line and not line[0].startswith("#")}


def _points(header: dict[str, list[str]], kind: str, body: bytes) -> np.ndarray:
    """Records (n,) of the points, with the fields of the header."""
    fields = header["FIELDS"]
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(fields))]
    codes = [_TYPES[letter] + size for letter, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    # A field that is named _ or twice is padding.
    names = [name if fields.count(name) == 1 and name != "_" else f"_{i}" for i, name in enumerate(fields)]
    stated = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
    if stated < 0 or min(counts, default=0) < 1 or sum(counts) > len(body):
        raise InputError(f"its {len(body)} bytes are not {stated} points of {sum(counts)} numbers")
    record = np.dtype([(n, f"<{code}", (c,)) for n, code, c in zip(names, codes, counts, strict=True)])
    if kind == "binary":
        if len(body) < stated * record.itemsize:
            raise InputError(f"it says {stated} points, there are {len(body) // record.itemsize}")
        return np.frombuffer(body, dtype=record, count=stated)
    if kind != "ascii":
        raise InputError(f"its data are '{kind}': convert it with pcl_convert_pcd_ascii_binary FILE OUT 1")
    lines = [line.split() for line in body.decode("ascii", errors="replace").splitlines() if line.strip()]
    if len(lines) != stated:
        raise InputError(f"it says {stated} points, there are {len(lines)}")
    if stated and len(lines[0]) != sum(counts):
        raise InputError(f"it says {sum(counts)} numbers of a point, there are {len(lines[0])}")
    points = np.zeros(stated, dtype=record)
    table = np.array(lines, dtype=np.float64).reshape(stated, sum(counts))
    start = 0
    for name, count in zip(names, counts, strict=True):
        values = table[:, start : start + count]
        with np.errstate(all="ignore"):  # what does not fit is found below
            points[name] = values
        if points.dtype[name].base.kind != "f" and (points[name] != values).any():
            raise InputError(f"a value of field '{name}' does not fit its type")
        start += count
    return points


def _cloud(points: np.ndarray) -> Cloud:
    pos = np.concatenate([points[name] for name in ("x", "y", "z")], axis=1)
    features = []
    names = points.dtype.names or ()
    if all(name in names for name in _NORMALS):
        features.append(np.concatenate([points[name] for name in _NORMALS], axis=1))
    for name in ("rgb", "rgba"):
        if name in names and points.dtype[name].itemsize == 4:
            packed = np.ascontiguousarray(points[name]).view(np.uint32)  # 0x00RRGGBB, often in the bits of a float
            features.append(np.concatenate([packed >> shift & 255 for shift in (16, 8, 0)], axis=1) / 255.0)
            break
    return Cloud(pos, np.concatenate(features, axis=1) if features else None)
