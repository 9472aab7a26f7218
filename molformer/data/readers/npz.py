"""NPZ files of molecules, in either of two layouts; those with other arrays are read as point clouds.

- Trajectory, of one molecule, as sGDML and MD17 have it: `R` (n, a, 3) positions, `z` (a,) atomic numbers, `E` (n,) or
  (n, 1) energies, `F` (n, a, 3) forces; units in `e_unit` and `r_unit`, else those of the targets, else eV and Å.
  rMD17's `coords nuclear_charges energies forces` are the same in kcal/mol and Å. The labels are called `energy` and
  `forces`. Each frame is a group of its own, so that a split is one of frames, as in the published benchmarks;
  successive frames are strongly correlated, so use few of a long trajectory.
- Ragged, of many molecules: `positions` (N, 3) in Å and `numbers` (N,) of all atoms, `offsets` (n + 1,) where each
  molecule begins, and any of `smiles`, `gdb_index` or `index`, `group`, `charge`, `spin` (n,). Labels are the columns
  of `targets` (n, T) with `target_names` and `target_units`, and every array of n or N rows that a label can be, its
  unit in `<name>_unit`. Rows with the same index are one group unless `group` says more.

Letters: n molecules or frames, a atoms of one, N atoms of all of them together, T targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from molformer import units
from molformer.data.readers.annotations import refuse_placeholders
from molformer.data.readers.archive import Archive, open_archive
from molformer.data.readers.columns import Column, choose, may_be_label
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.points import FORMAT as POINTS
from molformer.errors import InputError, UnitError
from molformer.structure import Structure
from molformer.targets import Label

_SGDML = {"R", "z"}
_RMD17 = {"coords", "nuclear_charges"}
_RAGGED = {"positions", "numbers", "offsets"}
_PER_ROW = ("gdb_index", "index", "group", "charge", "spin")
_NOT_LABELS = {*_RAGGED, *_PER_ROW, "smiles", "targets", "target_names", "target_units"}


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Molecules of a file, in its order. Without targets, all labels are read."""
    with open_archive(path, options.max_bytes) as archive:
        layout = _layout(archive)
        if layout is not None:
            empty = True
            for entry in layout.entries(options.targets):
                empty = False
                yield entry
            if empty:
                raise InputError(f"'{path}' holds no molecule")
    if layout is None:
        yield from POINTS.read(path, options)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """All labels of the file."""
    with open_archive(path, options.max_bytes) as archive:
        layout = _layout(archive)
        if layout is not None:
            return [chosen.label for chosen in choose(path, layout.columns(()), ())]
    return POINTS.labels(path, options)


class _Layout(Protocol):
    def columns(self, targets: tuple[Label, ...]) -> list[Column]: ...

    def entries(self, targets: tuple[Label, ...]) -> Iterator[Entry]: ...


def _layout(archive: Archive) -> _Layout | None:
    names = set(archive.names)
    if names >= _SGDML:
        return _Trajectory(archive, ("R", "z", "E", "F"), archive.word("e_unit"), archive.word("r_unit"))
    if names >= _RMD17:
        return _Trajectory(archive, ("coords", "nuclear_charges", "energies", "forces"), "kcal/mol", "Å")
    return _Ragged(archive) if names >= _RAGGED else None


@dataclass(frozen=True)
class _Trajectory:
    """Frames of one molecule; `names` are those of its positions, atomic numbers, energies and forces."""

    archive: Archive
    names: tuple[str, str, str, str]
    energy_unit: str
    length_unit: str

    def columns(self, targets: tuple[Label, ...]) -> list[Column]:
        frames, atoms = self._shape()
        _, _, energy, forces = self.names
        found = []
        if energy in self.archive.names:
            shape = (frames, *[1] * (len(self.archive.header(energy)[0]) - 1))
            load = partial(self.archive.load, energy, "fiu", shape)
            aliases = ["energy"] + [label.name for label in targets if label.name == energy != "energy"]
            found += [Column(name, (), False, load, self.energy_unit) for name in aliases]
        if forces in self.archive.names:
            unit, scale = self._force_unit()
            load = partial(self._forces, (frames, atoms, 3), scale)
            aliases = ["forces"] + [label.name for label in targets if label.name == forces != "forces"]
            found += [Column(name, (3,), True, load, unit) for name in aliases]
        return found

    def entries(self, targets: tuple[Label, ...]) -> Iterator[Entry]:
        frames, atoms = self._shape()
        numbers = self.archive.load(self.names[1], "iu", (atoms,)).astype(np.int64)
        pos = self.archive.load(self.names[0], "fiu", (frames, atoms, 3)) * units.factor(self.length_unit or "Å", "Å")
        columns = [(item.label, item.values()) for item in choose(self.archive.path, self.columns(targets), targets)]
        for row in range(frames):
            rows = slice(row * atoms, (row + 1) * atoms)
            values = {label.name: array[rows if label.per_node else row] for label, array in columns}
            where = f"{self.archive.path}, frame {row + 1}"
            yield _entry(where, where, numbers=numbers, pos=pos[row], labels=values)

    def _shape(self) -> tuple[int, int]:
        shape, _ = self.archive.header(self.names[0])
        if len(shape) != 3 or shape[2] != 3:
            raise InputError(
                f"'{self.archive.path}': array '{self.names[0]}' has shape {shape}, expected (frames, atoms, 3)"
            )
        return shape[0], shape[1]

    def _forces(self, shape: tuple[int, int, int], scale: float) -> np.ndarray:
        return self.archive.load(self.names[3], "fiu", shape).reshape(-1, 3) * scale

    def _force_unit(self) -> tuple[str, float]:
        """Unit of the forces, energy over length; eV/Å and a factor where the two make no unit with a name."""
        if not self.energy_unit:
            return "", 1.0
        unit = f"{self.energy_unit}/{self.length_unit or 'Å'}"
        try:
            return units.canonical(unit), 1.0
        except UnitError:
            return "eV/Å", units.factor(self.energy_unit, "eV") / units.factor(self.length_unit or "Å", "Å")


@dataclass(frozen=True)
class _Ragged:
    """Molecules of many sizes, their atoms one after another."""

    archive: Archive

    def columns(self, targets: tuple[Label, ...]) -> list[Column]:
        count, atoms = self._counts()
        archive = self.archive
        found = []
        if "targets" in archive.names:
            shape = (count, *archive.header("targets")[0][1:])
            table = _Table(archive, shape)
            names = archive.words("target_names", shape[-1])
            given = "target_units" in archive.names
            its_units = archive.words("target_units", shape[-1]) if given else [""] * len(names)
            for place, (name, unit) in enumerate(zip(names, its_units, strict=True)):
                found.append(Column(name, (), False, partial(table.column, place), unit))
        for name in archive.names:
            if name in _NOT_LABELS or name.endswith("_unit"):
                continue
            shape, kind = archive.header(name)
            if shape[:1] in ((count,), (atoms,)) and may_be_label(name, kind, targets):
                load = partial(archive.load, name, "fiu", shape)
                found.append(Column(name, shape[1:], shape[0] != count, load, archive.word(f"{name}_unit")))
        return found

    def entries(self, targets: tuple[Label, ...]) -> Iterator[Entry]:
        archive = self.archive
        count, atoms = self._counts()
        bounds = self._offsets(atoms).tolist()
        pos = archive.load("positions", "fiu", (atoms, 3)).astype(np.float64)
        numbers = archive.load("numbers", "iu", (atoms,)).astype(np.int64)
        rows = {name: archive.load(name, "iu", (count,)).tolist() for name in _PER_ROW if name in archive.names}
        smiles = archive.words("smiles", count) if "smiles" in archive.names else [""] * count
        index = rows.get("gdb_index") or rows.get("index") or [-1] * count
        group = rows.get("group", index)
        title = "gdb " if "gdb_index" in rows else "index "
        charge, spin = rows.get("charge", [0] * count), rows.get("spin", [1] * count)
        columns = [(item.label, item.values()) for item in choose(archive.path, self.columns(targets), targets)]
        for row in range(count):
            mine = slice(bounds[row], bounds[row + 1])
            where = f"{archive.path}, molecule {row + 1}"
            yield _entry(
                f"{title}{index[row]}" if index[row] >= 0 else where,
                where,
                numbers=numbers[mine],
                pos=pos[mine],
                charge=charge[row],
                spin=spin[row],
                smiles=smiles[row],
                group=group[row],
                labels={label.name: array[mine if label.per_node else row] for label, array in columns},
            )

    def _counts(self) -> tuple[int, int]:
        """Molecules, and atoms of all of them."""
        (offsets, *_), (atoms, *_) = ((*self.archive.header(name)[0], 0) for name in ("offsets", "positions"))
        return max(offsets - 1, 0), atoms

    def _offsets(self, atoms: int) -> np.ndarray:
        offsets = self.archive.load("offsets", "iu", (None,)).astype(np.int64)
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != atoms or (np.diff(offsets) < 0).any():
            raise InputError(
                f"'{self.archive.path}': offsets must begin with 0, never fall and end with {atoms}, the atoms"
            )
        return offsets


class _Table:
    """The array of targets (n, T), read when the first column is needed."""

    def __init__(self, archive: Archive, shape: tuple[int, ...]) -> None:
        self._archive, self._shape = archive, shape
        self._values: np.ndarray | None = None

    def column(self, place: int) -> np.ndarray:
        if self._values is None:
            self._values = self._archive.load("targets", "fiu", self._shape)
        return self._values[:, place]


def _entry(name: str, where: str, **kwargs: Any) -> Entry:
    try:
        if kwargs["numbers"].any():  # otherwise they are points
            refuse_placeholders(kwargs["numbers"])
        return Entry(name, where=where, structure=Structure(name=where, **kwargs))
    except InputError as error:
        return Entry(name, where=where, error=InputError(f"{where}: {str(error).removeprefix(f'{where}: ')}"))


FORMAT = Format(read, labels, None)
