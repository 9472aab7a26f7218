"""XYZ and extended XYZ files, read by ASE: atoms, cell, charge, spin, and labels of the frame and of its atoms.

Energies, forces, stresses, dipoles and charges have ASE's units (eV, eV/Å, eV/Å³, e·Å, e) where a target does not say
another. A frame that is not periodic in three directions has no stress, whatever its comment says.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.io.extxyz import XYZError, read_xyz

from molformer.data.known_labels import fits, label_of_shape, shaped
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import open_text
from molformer.data.structure import Label, Structure
from molformer.errors import InputError

_ASE_UNITS = {
    "energy": "eV",
    "free_energy": "eV",
    "forces": "eV/Å",
    "dipole": "e·Å",
    "charges": "e",
    "stress": "eV/Å^3",
}
_BEYOND = 100_000
"""Lines that may be asked for after the last one."""

_CHARGE = ("charge", "total_charge")
_SPIN = ("spin", "multiplicity", "spin_multiplicity")


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Frames of a file, one after another; a broken frame is the last, with an error. See `Format.read`.

    Without targets, the labels of the first frame are those of all.
    """
    wanted = options.targets
    try:
        with open_text(path, options.max_bytes) as file:
            for frame, atoms in enumerate(_frames(file, path), start=1):
                where = f"{path}, frame {frame}"
                name = where if frame > 1 else str(path)
                if frame == 1 and not wanted:
                    wanted = tuple(_labels_of(atoms))
                try:
                    yield Entry(name, where=where, structure=_structure(atoms, wanted, where))
                except InputError as error:
                    yield Entry(name, where=where, error=error)
    except InputError as error:
        yield Entry(str(path), where=str(path), error=error)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """The targets or, without any, the labels of the first frame; see `Format.labels`."""
    if options.targets:
        return list(options.targets)
    try:
        with open_text(path, options.max_bytes) as file:
            return _labels_of(next(_frames(file, path)))
    except InputError:
        return []  # `read` says what is wrong with the file


def _frames(file: TextIO, path: Path) -> Iterator[Atoms]:
    frame = 0
    try:
        for frame, atoms in enumerate(read_xyz(_Text(file.read()), index=slice(None)), start=1):  # noqa: B007
            yield atoms
    except KeyError as error:
        raise InputError(f"'{path}', frame {frame + 1}: {error} is not a chemical symbol") from None
    except UnicodeDecodeError:
        raise  # a ValueError, but `open_text` knows what to say
    except (XYZError, ValueError, IndexError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
        # ASE raises any of these
        reason = str(error).removeprefix("ase.io.extxyz: ").replace("generator raised StopIteration", "it ends early")
        message = f"'{path}' is not a complete XYZ file: frame {frame + 1}: {' '.join(reason.split())}"
        raise InputError(message) from None
    if frame == 0:
        raise InputError(f"'{path}' is empty")


class _Text(io.StringIO):
    """The content of a file, which can be read beyond its end a number of times only.

    ASE reads as many lines as a frame says it has atoms, and there may be said to be any number of them.
    """

    beyond = 0

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        line = super().readline(-1 if size is None else size)
        self.beyond += not line
        if self.beyond > _BEYOND:
            raise XYZError("it ends early: a frame is said to have far more atoms than there are lines")
        return line


def _values(atoms: Atoms) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a frame says by name: of the whole, and of each atom. ASE moves some of it into a calculator."""
    whole, each = dict(atoms.info), dict(atoms.arrays)
    for name, value in (atoms.calc.results if atoms.calc else {}).items():
        per_atom = np.ndim(value) > 0 and len(value) == len(atoms) and name in ("forces", "charges", "magmoms")
        (each if per_atom else whole)[name] = value
    return whole, each


def _labels_of(atoms: Atoms) -> list[Label]:
    """Labels of a frame: names that are known, and real numbers, vectors and matrices under any other name."""
    whole, each = _values(atoms)
    found = []
    for values, per_atom in ((whole, False), (each, True)):
        for name, value in values.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and name not in (*_CHARGE, *_SPIN, "numbers", "positions", "virial"):
                shape = array.shape[1:] if per_atom else array.shape
                found.append(label_of_shape(name, shape, per_atom, _ASE_UNITS.get(name, "")))
    return [label for label in found if label is not None]


def _structure(atoms: Atoms, wanted: tuple[Label, ...], where: str) -> Structure:
    whole, each = _values(atoms)
    values = {}
    periodic = atoms.cell.array.any()
    for label in wanted:
        if label.target_kind.periodic and not (periodic and atoms.pbc.all()):
            continue
        source = each if label.per_node else whole
        if label.name in source:
            values[label.name] = _value(source[label.name], label, len(atoms), where)
        elif label.name in (whole if label.per_node else each):
            has, wants = ("frame", "atom") if label.per_node else ("atom", "frame")
            raise InputError(
                f"{where}: '{label.name}' has a value for each {has}, kind '{label.kind}' one for each {wants}"
            )
    return Structure(
        atoms.numbers,
        atoms.positions,
        charge=_integer(whole, _CHARGE, 0, where),
        spin=_spin(whole, where),
        cell=_cell(atoms) if periodic else None,
        pbc=tuple(bool(axis) for axis in atoms.pbc) if periodic else (True, True, True),  # type: ignore[arg-type]
        name=where,
        labels=values,
    )


def _cell(atoms: Atoms) -> np.ndarray:
    """Lattice vectors; those that are zero, where nothing repeats, become unit vectors across the others."""
    return atoms.cell.array if atoms.cell.array.any(axis=1).all() else atoms.cell.complete().array


def _value(value: Any, label: Label, atoms: int, where: str) -> np.ndarray:
    array = np.asarray(value)
    shape = array.shape[1:] if label.per_node else array.shape
    right_count = not label.per_node or array.shape[:1] == (atoms,)
    if array.dtype.kind not in "fiub" or not right_count or not fits(label, shape):
        expected = (atoms, *label.shape) if label.per_node else label.shape
        raise InputError(
            f"{where}: '{label.name}' is of type {array.dtype} and shape {array.shape}, a label of kind "
            f"'{label.kind}' needs numbers of shape {expected}"
        )
    return shaped(label, array, (atoms,) if label.per_node else ()).astype(np.float64)


def _integer(whole: dict[str, Any], names: tuple[str, ...], default: int, where: str) -> int:
    name = next((name for name in names if name in whole), None)
    if name is None:
        return default
    value = np.asarray(whole[name])
    if value.ndim or value.dtype.kind not in "fiu" or value % 1 != 0:  # which infinite and NaN are not either
        raise InputError(f"{where}: {name} '{whole[name]}' is not a whole number")
    return int(value)


def _spin(whole: dict[str, Any], where: str) -> int:
    spin = _integer(whole, _SPIN, 1, where)
    if spin < 1:
        raise InputError(f"{where}: spin {spin} is not a multiplicity 2S+1, which is at least 1")
    return spin


FORMAT = Format("XYZ", (".xyz", ".extxyz"), read, labels)
