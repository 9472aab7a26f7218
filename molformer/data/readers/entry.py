"""Entry, the result of a reader for each molecule or cloud, valid or not, and options of readers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molformer.errors import InputError, MolformerError, check_choices, encodable
from molformer.structure import Structure
from molformer.targets import Label

Censored = Literal["bounds", "refuse"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One input: a structure, a molecule without a geometry, or an error.

    Args:
        name: in tables: title, SMILES, or file and row.
        where: file and row for messages; empty for an input that was typed.
        structure: the molecule with coordinates, labels included.
        smiles: of a molecule without coordinates.
        labels: of such a molecule, see `Structure.labels`.
        error: why the input cannot be used.
        conformers: further geometries of the same molecule, from low to high force-field energy.
    """

    name: str
    where: str = ""
    structure: Structure | None = None
    smiles: str = ""
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    error: MolformerError | None = None
    conformers: tuple[Structure, ...] = ()

    def __post_init__(self) -> None:
        for name in ("name", "where", "smiles"):
            if not getattr(self, name).isascii():
                object.__setattr__(self, name, encodable(getattr(self, name)))


@dataclass(frozen=True)
class ReadOptions:
    """Options of readers.

    Args:
        targets: labels to read, by name; a name is a column of a table, a property of an SDF record, an array of
            a file. None are taken where it is empty, unless the file itself says which labels it has.
        smiles_column: SMILES column of a table; detected by its name if empty.
        delimiter: field delimiter of a table; detected from its first row if empty.
        max_bytes: largest uncompressed size of a file.
        points: points drawn from the surface of a mesh.
        seed: of that draw.
        add_hydrogens: add the hydrogens that a MOL, SDF, MOL2 or PDB record with 3-D coordinates lacks.
        bonds: `given`, those of the source; or `perceive`, also of 3-D molecules that have none, see `perceive_bonds`.
        censored: values such as `>5` in tables and SDF are `bounds`, see `targets.bounds_of`, or `refuse` their rows.
        allow_missing: ignore targets that no input has, unless all are missing.
    """

    targets: tuple[Label, ...] = ()
    smiles_column: str = ""
    delimiter: str = ""
    max_bytes: int = 64 * 2**30
    points: int = 1024
    seed: int = 0
    add_hydrogens: bool = False
    bonds: str = "given"
    censored: Censored = "bounds"
    allow_missing: bool = False

    def __post_init__(self) -> None:
        check_choices(self, InputError)
        if self.bonds not in ("given", "perceive"):
            raise InputError(f"bonds '{self.bonds}' is not one of given, perceive")


def _none(path: Path, options: ReadOptions) -> list[Any]:
    return []


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        entries: of a file, one after another. What is wrong with one row is the error of that row's entry, what is
            wrong with the whole file is raised.
        own_labels: labels that the file itself tells of; none by default.
        names: names that a label of a file can have, perhaps more than once, as they are found, none by default; None
            where `entries` itself refuses a target that is not there.
    """

    entries: Callable[[Path, ReadOptions], Iterator[Entry]]
    own_labels: Callable[[Path, ReadOptions], list[Label]] = _none
    names: Callable[[Path, ReadOptions], Iterable[str]] | None = _none

    def read(self, path: Path, options: ReadOptions) -> Iterator[Entry]:
        """Entries of a file, one after another; what is wrong with the whole file is an entry of its own."""
        try:
            yield from self.entries(path, options)
        except MolformerError as error:
            yield Entry(str(path), where=str(path), error=error)

    def labels(self, path: Path, options: ReadOptions) -> list[Label]:
        """The labels that the entries of a file will have: `options.targets`, or what the file itself tells."""
        if options.targets:
            return list(options.targets)
        try:
            return self.own_labels(path, options)
        except MolformerError:
            return []  # `read` says what is wrong with the file
