"""XYZ and extended XYZ files: atoms, cell, charge, spin, and labels of the frame and of its atoms.

Energies, forces, stresses, dipoles and charges have ASE's units (eV, eV/Å, eV/Å³, e·Å, e), under whatever name they are
known, where a target does not say another. Virials become stresses, minus themselves over the volume of the cell. A
frame that is not periodic in three directions has no stress, whatever its comment says.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.cell import Cell
from ase.io.extxyz import REV_PROPERTY_NAME_MAP

from molformer.data.known_labels import known_label, label_of_shape, shaped
from molformer.data.readers.annotations import CHARGE, SPIN, is_state, whole_number
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import open_text
from molformer.data.readers.xyz_frames import Column, Frame, annotations, parse, raw_frames
from molformer.errors import InputError
from molformer.structure import Structure
from molformer.targets import Label

logger = logging.getLogger(__name__)

_ASE_UNITS = {"extensive": "eV", "forces": "eV/Å", "vector": "e·Å", "charges": "e", "stress": "eV/Å^3"}
_ASE_NAMES = re.compile(r"(.*_)?(free_|total_|potential_)?(energy|forces?|dipole|dipole_moment|charges|stress)", re.I)
_VIRIAL = re.compile(r"(.*?)virials?", re.IGNORECASE)


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Frames of a file, one after another, good or bad; without targets, each with the labels that it has itself."""
    frame = 0
    try:
        with open_text(path, options.max_bytes) as file:
            for frame, raw in enumerate(raw_frames(file), start=1):
                where = f"{path}, frame {frame}"
                name = where if frame > 1 else str(path)
                try:
                    yield Entry(name, where=where, structure=_structure(parse(raw), options.targets, where))
                except InputError as error:
                    text = str(error).removeprefix(f"{where}: ")
                    yield Entry(name, where=where, error=InputError(f"{where}: {text}"))
        if frame == 0:
            raise InputError(f"'{path}' is empty")
    except InputError as error:
        text = str(error)
        raise InputError(text if str(path) in text else f"'{path}' is not a complete XYZ file: {text}") from None


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """The labels of all frames; says which only some frames have."""
    found: dict[str, Label] = {}
    counts: Counter[str] = Counter()
    frames = 0
    for described in _described(path, options):
        each = _found(*described)
        frames += 1
        counts.update(label.name for label in each)
        found = {label.name: label for label in each} | found
    partial = [f"{name} ({count} of {frames} frames)" for name, count in counts.items() if count < frames]
    if partial:
        whole = [name for name, count in counts.items() if count == frames]
        others = f"; all have {', '.join(whole)}" if whole else ""
        logger.warning("'%s': only some frames have %s%s", path, ", ".join(partial), others)
    return list(found.values())


def names(path: Path, options: ReadOptions) -> Iterator[str]:
    """Names that a label of a file can have, frame by frame."""
    for whole, columns in _described(path, options):
        yield from (*whole, *(_array_name(column) for column in columns))


def _described(path: Path, options: ReadOptions) -> Iterator[tuple[dict[str, Any], list[Column]]]:
    """What each frame says of the whole, by name, and the columns of its atoms, which are left unread."""
    try:
        with open_text(path, options.max_bytes) as file:
            for raw in raw_frames(file):
                try:
                    whole, columns = annotations(raw)
                    cell, pbc = whole.pop("Lattice", None), np.asarray(whole.pop("pbc", True))
                    yield _with_stress(whole, cell, bool(pbc.all())), columns
                except InputError:
                    continue  # `read` says what is wrong with the frame
    except InputError:
        return  # `read` says what is wrong with the file


def _found(whole: dict[str, Any], columns: list[Column]) -> list[Label]:
    """Labels of a frame: names that are known, and real numbers, vectors and matrices under any other name."""
    found = []
    for name, value in whole.items():
        array = np.asarray(value)
        if not is_state(name) and not _VIRIAL.fullmatch(name) and _may_be_label(name, array.dtype.kind):
            found.append(label_of_shape(name, array.shape, False, _unit(name)))
    for column in columns:
        name, kind = _array_name(column), {"R": "f", "I": "i"}.get(column.type, "")
        if name not in ("symbols", "positions", "numbers") and _may_be_label(name, kind):
            found.append(label_of_shape(name, () if column.count == 1 else (column.count,), True, _unit(name)))
    return [label for label in found if label is not None]


def _array_name(column: Column) -> str:
    return REV_PROPERTY_NAME_MAP.get(column.name, column.name)


def _may_be_label(name: str, kind: str) -> bool:
    return kind == "f" or (kind == "i" and known_label(name) is not None)


def _unit(name: str) -> str:
    """The unit of ASE for a quantity that it has, under any name; empty for others."""
    known = known_label(name)
    return _ASE_UNITS.get(known.kind, "") if known is not None and _ASE_NAMES.fullmatch(name) else ""


def _with_stress(whole: dict[str, Any], cell: np.ndarray | None, periodic: bool) -> dict[str, Any]:
    """With a stress for each virial of a periodic frame that has none."""
    added = {}
    for name, value in whole.items():
        match, array = _VIRIAL.fullmatch(name), np.asarray(value)
        if match and cell is not None and periodic and array.dtype.kind in "fi" and array.size in (6, 9):
            volume = abs(np.linalg.det(cell.astype(np.float64)))
            added[f"{match[1]}stress"] = -array.reshape(-1) / volume if volume > 0 else np.full(array.size, np.nan)
    return added | whole


def _structure(frame: Frame, wanted: tuple[Label, ...], where: str) -> Structure:
    periodic = bool(frame.cell.any())
    three = periodic and bool(frame.pbc.all())
    whole = _with_stress(frame.whole, frame.cell if periodic else None, three)
    values = {}
    for label in wanted or _found(whole, frame.columns):
        if label.target_kind.periodic and not three:
            continue
        source = frame.each if label.per_node else whole
        if label.name in source:
            values[label.name] = _value(source[label.name], label, len(frame.numbers))
        elif label.name in (whole if label.per_node else frame.each):
            has, wants = ("frame", "atom") if label.per_node else ("atom", "frame")
            raise InputError(f"'{label.name}' has a value for each {has}, kind '{label.kind}' one for each {wants}")
    spin = whole_number(whole, SPIN, 1)
    if spin < 1:
        raise InputError(f"spin {spin} is not a multiplicity 2S+1, which is at least 1")
    return Structure(
        frame.numbers,
        frame.pos,
        charge=whole_number(whole, CHARGE, 0),
        spin=spin,
        cell=_cell(frame.cell) if periodic else None,
        pbc=tuple(bool(axis) for axis in frame.pbc) if periodic else (True, True, True),  # type: ignore[arg-type]
        name=where,
        labels=values,
    )


def _cell(cell: np.ndarray) -> np.ndarray:
    """Lattice vectors; those that are zero, where nothing repeats, become unit vectors across the others."""
    return cell if cell.any(axis=1).all() else Cell(cell).complete().array


def _value(value: Any, label: Label, atoms: int) -> np.ndarray:
    array = np.asarray(value)
    shape = array.shape[1:] if label.per_node else array.shape
    if array.dtype.kind not in "fiub" or not label.target_kind.fits(shape):
        expected = (atoms, *label.shape) if label.per_node else label.shape
        raise InputError(
            f"'{label.name}' is of type {array.dtype} and shape {array.shape}, a label of kind "
            f"'{label.kind}' needs numbers of shape {expected}"
        )
    return shaped(label, array, (atoms,) if label.per_node else ()).astype(np.float64)


FORMAT = Format(read, labels, names)
