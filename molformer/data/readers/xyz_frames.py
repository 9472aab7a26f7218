"""Frames of XYZ and extended XYZ files: a number of atoms, a comment, and a line for each atom.

The number of atoms alone says where a frame ends, so that a frame that cannot be read costs no other. The comment is
parsed by ASE; columns are those of its `Properties`, else symbol and position. Also known are atomic numbers and
labelled symbols (`C1`) in place of symbols, the exponents of Fortran (`1.0D-3`) and of QM9 (`1.0*^-3`), and the
properties and the three last lines of QM9's files. Letters: n atoms.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

import numpy as np
from ase.io.extxyz import REV_PROPERTY_NAME_MAP, key_val_str_to_dict

from molformer.data.readers.annotations import refuse_placeholders
from molformer.elements import number_of
from molformer.errors import DAMAGE, InputError, one_line

MAX_COMMENT = 1 << 17  # characters of a comment, at most
MAX_ATOMS, MAX_FRAME = 1 << 22, 1 << 28  # atoms and characters of a frame, at most

_QM9 = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")
_KEYS = re.compile(r'(?<![^\s"])(lattice|properties|pbc|stress|virial)(?="?\s*=)', re.IGNORECASE)
_SPELLINGS = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_AS_IT_IS = "\0"  # after a key that ASE would refuse unless it had nine numbers
_EXPONENT = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))(?:\*\^|[dD])([-+]?\d+)")
_LOGICAL = {"T": True, "F": False, "True": True, "False": False}


@dataclass(frozen=True)
class Column:
    """A property of each atom: its name, the letter of its type (R, I, S or L), the place and number of its words."""

    name: str
    type: str
    start: int
    count: int


@dataclass(frozen=True)
class RawFrame:
    """The text of a frame: its comment, the lines of its atoms, and those of lattice vectors (`VEC1` …) after them."""

    comment: str
    rows: list[str]
    vectors: list[str]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame as numbers."""

    numbers: np.ndarray  # atomic numbers (n,)
    pos: np.ndarray  # positions (n, 3), Å
    cell: np.ndarray  # lattice vectors as rows (3, 3), Å; zeros where there is none
    pbc: np.ndarray  # which of them are periodic (3,)
    whole: dict[str, Any]  # what the comment says, by name
    each: dict[str, np.ndarray]  # what the columns say of each atom, by name (n, …)
    columns: list[Column]  # of the atoms


def raw_frames(file: TextIO) -> Iterator[RawFrame]:
    """Frames of a file, one after another, unread.

    Raises:
        InputError: where a frame should begin there is no number of atoms, or one ends early or is too large; the
            frames after it cannot be found.
    """
    frame, line = 0, file.readline()
    while line:
        if not line.strip():
            line = file.readline()
            continue
        frame += 1
        try:
            atoms = int(line)
        except ValueError:
            raise InputError(f"frame {frame}: '{line.strip()[:40]}' is not a number of atoms") from None
        if atoms > MAX_ATOMS:
            raise InputError(f"frame {frame} is said to have {atoms} atoms, more than {MAX_ATOMS}")
        comment, rows, size = file.readline(), [], 0
        for row in islice(file, max(atoms, 0)):
            size += len(row)
            rows.append(row)
            if size > MAX_FRAME:
                raise InputError(f"frame {frame} has more than {MAX_FRAME} characters: it is no molecule")
        if len(rows) < atoms:
            raise InputError(f"frame {frame}: it ends early, after {len(rows)} of {atoms} atoms")
        line, vectors = file.readline(), []
        while line.startswith("VEC"):
            vectors.append(line)
            line = file.readline()
        for _ in range(3 if _is_qm9(comment) else 0):  # frequencies, SMILES and InChI
            line = line if line.strip().isdecimal() else file.readline()
        yield RawFrame(comment, rows, vectors)


def annotations(frame: RawFrame) -> tuple[dict[str, Any], list[Column]]:
    """What the comment of a frame says by name, and the columns of its atoms.

    Raises:
        InputError: the comment cannot be parsed, or names more columns than the atoms have.
    """
    if len(frame.comment) > MAX_COMMENT:
        raise InputError(f"its comment has more than {MAX_COMMENT} characters")
    there = len(frame.rows[0].split()) if frame.rows else 0
    if _is_qm9(frame.comment):
        values = [_number(word) for word in frame.comment.split()[2:]]
        known = dict(zip(_QM9, values, strict=True)) if len(values) == len(_QM9) else {}
        return known, _columns("species:S:1:pos:R:3" + ":charge:R:1" * (there == 5), there)
    text = _KEYS.sub(lambda key: _SPELLINGS.get(key[0].lower(), key[0] + _AS_IT_IS), frame.comment.strip())
    try:
        info = key_val_str_to_dict(text) if text and not frame.vectors else {}
    except DAMAGE as error:
        raise InputError(f"its comment cannot be parsed: {one_line(error)}") from None
    info = {name.removesuffix(_AS_IT_IS): value for name, value in info.items()}
    return info, _columns(str(info.pop("Properties", "species:S:1:pos:R:3")), there)


def parse(frame: RawFrame) -> Frame:
    """The numbers of a frame.

    Raises:
        InputError: it has no atoms or positions, a symbol or a number cannot be read, or its cell is none.
    """
    whole, columns = annotations(frame)
    if not frame.rows:
        raise InputError("the molecule has no atoms")
    table = [row.split() for row in frame.rows]
    expected = sum(column.count for column in columns)
    if short := next((atom for atom, row in enumerate(table, start=1) if len(row) < expected), 0):
        raise InputError(f"atom {short} has {len(table[short - 1])} columns, expected {expected}")
    each = {REV_PROPERTY_NAME_MAP.get(each.name, each.name): _values(each, table) for each in columns}
    pos, symbols, numbers = (each.pop(name, None) for name in ("positions", "symbols", "numbers"))
    if pos is None or pos.shape != (len(table), 3) or pos.dtype.kind not in "fi":
        raise InputError("its `Properties` name no positions, pos:R:3")
    if numbers is None:
        if symbols is None or symbols.dtype != object or symbols.ndim != 1:
            raise InputError("its `Properties` name neither symbols, species:S:1, nor atomic numbers, Z:I:1")
        first = {symbol: atom for atom, symbol in reversed([*enumerate(symbols.tolist(), start=1)])}
        known = {symbol: _element(symbol, atom) for symbol, atom in first.items()}
        numbers = np.array([known[symbol] for symbol in symbols.tolist()])
    if numbers.ndim != 1 or numbers.dtype.kind != "i":
        raise InputError("its atomic numbers are none, expected Z:I:1")
    refuse_placeholders(numbers)
    cell, pbc = _lattice(whole, frame.vectors)
    return Frame(numbers, pos.astype(np.float64), cell, pbc, whole, each, columns)


def _is_qm9(comment: str) -> bool:
    return comment.split(maxsplit=1)[:1] == ["gdb"]


def _columns(properties: str, there: int) -> list[Column]:
    fields = properties.split(":")
    found, start = [], 0
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in ("R", "I", "S", "L") or not count.isdecimal() or not 0 < len(count) < 10:
            raise InputError(f"its `Properties` have '{name}:{kind}:{count}', expected NAME:R, I, S or L:COLUMNS")
        found.append(Column(name, kind, start, int(count)))
        start += int(count)
    if start > there > 0:
        raise InputError(f"its `Properties` name {start} columns, its first atom has {there}")
    return found


def _values(column: Column, table: list[list[str]]) -> np.ndarray:
    """Values of a column (n,) or (n, count)."""
    words = [row[column.start : column.start + column.count] for row in table]
    if column.type == "S":
        values = np.array(words, dtype=object)
    elif column.type == "L":
        values = np.array([[_LOGICAL.get(word, False) for word in row] for row in words])
    else:
        kind = np.float64 if column.type == "R" else np.int64
        try:
            values = np.array(words, dtype=kind)
        except (ValueError, OverflowError):
            rows = [[_number(word, f"atom {atom}: ") for word in row] for atom, row in enumerate(words, start=1)]
            values = np.array(rows).astype(kind)
    return values[:, 0] if column.count == 1 else values


def _number(word: str, where: str = "") -> float:
    match = _EXPONENT.fullmatch(word)
    try:
        return float(f"{match[1]}e{match[2]}" if match else word)
    except ValueError:
        raise InputError(f"{where}'{word[:40]}' is not a number") from None


def _element(symbol: str, atom: int) -> int:
    """Atomic number of a symbol, a symbol with a label such as `C1` or `H_2`, or a number."""
    try:
        return int(symbol) if symbol.isdecimal() else number_of(re.sub(r"(?<=[A-Za-z])_?\d+$", "", symbol))
    except (InputError, ValueError):
        raise InputError(f"atom {atom}: '{symbol[:40]}' is not a chemical symbol") from None


def _lattice(whole: dict[str, Any], vectors: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cell (3, 3) and periodic directions (3,), which are taken out of what the comment says."""
    cell, pbc = whole.pop("Lattice", None), whole.pop("pbc", None)
    if vectors:
        cell = np.zeros((3, 3))
        for place, row in enumerate(vectors[:3]):
            cell[place] = [*(_number(word) for word in row.split()[1:4]), 0.0, 0.0, 0.0][:3]
        return cell, np.array(cell.any(axis=1))
    flags = np.asarray(cell is not None if pbc is None else pbc)
    if flags.dtype.kind not in "biuf" or flags.shape not in ((), (3,)):
        raise InputError(f"its pbc is '{pbc}', expected three of T and F")
    return np.zeros((3, 3)) if cell is None else cell.T.astype(np.float64), np.full(3, flags, dtype=bool)
