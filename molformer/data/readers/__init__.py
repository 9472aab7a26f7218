"""Readers: entries from SMILES, files of all supported formats, and objects.

Every input gives an `Entry`, also if it is invalid. A format is a module of this package with a `FORMAT`, listed in
`_FORMATS`; it is imported when a file of that kind is first met.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from molformer.data.readers import files
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.errors import InputError
from molformer.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

_SUFFIXES = {
    "smiles": ".smi .smiles .txt",
    "xyz": ".xyz .extxyz",
    "sdf": ".sdf .mol .sd",
    "pdb": ".pdb .ent",
    "mol2": ".mol2",
    "crystals": ".cif .vasp .poscar",
    "table": ".csv .tsv .parquet",
    "points": ".ply .off .obj .stl .pcd .npy .pts .xyzn",
    "npz": ".npz",
    "hdf5": ".h5 .hdf5",
    "store": ".safetensors",
}
_FORMATS = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}

SUFFIXES = tuple(_FORMATS)  #: endings of the files that can be read, each also with `.gz`


def read_input(source: "str | Path | Structure | Mol | Atoms", options: ReadOptions | None = None) -> Iterator[Entry]:
    """Entries of a SMILES, file, structure, RDKit `Mol` or ASE `Atoms`: a file has one for each molecule, others one.

    Bonds of 3-D molecules that have none are perceived where `options` say so; if they cannot be, that is an error.

    Example:
        >>> [entry.smiles for entry in read_input("CCO")]
        ['CCO']
    """
    entries = _entries(source, options)
    yield from map(_perceived, entries) if options is not None and options.bonds == "perceive" else entries


def _perceived(entry: Entry) -> Entry:
    from molformer.data.bonds import perceive_bonds

    if entry.structure is None:
        return entry
    try:
        return replace(entry, structure=perceive_bonds(entry.structure))
    except InputError as error:
        return replace(entry, structure=None, error=error)


def _entries(source: "str | Path | Structure | Mol | Atoms", options: ReadOptions | None) -> Iterator[Entry]:
    if isinstance(source, Structure):
        yield Entry(source.where or source.formula, source.where, structure=source)
    elif library := library_of(source):
        objects = import_module("molformer.data.readers.objects")
        yield objects.from_rdkit(source) if library == "rdkit" else objects.from_ase(source)
    elif is_file(source):
        yield from read_file(Path(source), options)
    else:
        yield Entry(str(source), smiles=str(source))


def library_of(source: object) -> str:
    """`rdkit` or `ase` for an object of that library, else an empty text; neither is imported to find out."""
    packages = {cls.__module__.partition(".")[0] for cls in type(source).__mro__}
    return next((name for name in ("rdkit", "ase") if name in packages), "")


def is_file(source: str | Path) -> bool:
    """Whether an input is a file rather than a SMILES: by its suffix, or because the file exists."""
    if isinstance(source, Path):
        return True
    known = ("." in source and files.suffix_of(Path(source)) in _FORMATS) or _is_poscar(Path(source))
    return known or os.path.isdir(source) or (("." in source or os.sep in source) and os.path.isfile(source))


def _is_poscar(path: Path) -> bool:
    """Whether a file is called `POSCAR` or `CONTCAR`, perhaps with more after it, as those of VASP are."""
    return path.name.upper().startswith(("POSCAR", "CONTCAR"))


def format_of(path: Path) -> Format:
    """The format of a file, by its name; a folder is a tree of point clouds by class.

    Raises:
        InputError: files of this kind cannot be read.
    """
    if path.is_dir():
        return import_module("molformer.data.readers.points").FORMAT
    suffix = files.suffix_of(path)
    if suffix not in _FORMATS and _is_poscar(path):
        suffix = ".poscar"
    if suffix not in _FORMATS:
        raise InputError(f"'{path}': files of type '{suffix}' cannot be read; use {', '.join(SUFFIXES)}")
    return import_module(f"molformer.data.readers.{_FORMATS[suffix]}").FORMAT


def read_file(path: Path, options: ReadOptions | None = None) -> Iterator[Entry]:
    """Entries of a file; a file that cannot be read at all is one entry with an error."""
    try:
        chosen = format_of(path)
    except InputError as error:
        return iter([Entry(str(path), where=str(path), error=error)])
    return chosen.read(path, options or ReadOptions())
