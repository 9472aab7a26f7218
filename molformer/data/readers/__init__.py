"""From what a user has to entries: SMILES, files of every known format, structures.

Every input ends in an `Entry`; nothing is dropped. A format is a module of this package with a `FORMAT`, listed in
`_FORMATS`; it is imported when a file of that kind is first met.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import suffix_of
from molformer.data.structure import Structure
from molformer.errors import InputError

_FORMATS = {
    ".smi": "smiles",
    ".smiles": "smiles",
    ".txt": "smiles",
    ".xyz": "xyz",
    ".extxyz": "xyz",
}

SUFFIXES = tuple(_FORMATS)
"""Endings of the files that can be read, each also with `.gz`."""

__all__ = ["SUFFIXES", "Entry", "Format", "ReadOptions", "format_of", "is_file", "read_file", "read_input"]


def read_input(source: str | Path | Structure, options: ReadOptions | None = None) -> Iterator[Entry]:
    """Entries of one input: a SMILES and a structure have one, a file one for each molecule.

    Args:
        source: a SMILES, the path of a file, or a structure.
        options: how files are read.

    Example:
        >>> [entry.smiles for entry in read_input("CCO")]
        ['CCO']
    """
    if isinstance(source, Structure):
        yield Entry(source.where or source.formula, source.where, structure=source)
    elif is_file(source):
        yield from read_file(Path(source), options)
    else:
        yield Entry(str(source), smiles=str(source))


def is_file(source: str | Path) -> bool:
    """Whether an input names a file rather than being a SMILES."""
    return isinstance(source, Path) or suffix_of(Path(source)) in _FORMATS or Path(source).is_dir()


def format_of(path: Path) -> Format:
    """The format of a file, by its name.

    Raises:
        InputError: files of this kind cannot be read.
    """
    suffix = suffix_of(path)
    if suffix not in _FORMATS:
        raise InputError(f"'{path}': files of type '{suffix}' cannot be read; use {', '.join(SUFFIXES)}")
    return import_module(f"molformer.data.readers.{_FORMATS[suffix]}").FORMAT


def read_file(path: Path, options: ReadOptions | None = None) -> Iterator[Entry]:
    """Entries of a file; a file that cannot be read at all is one entry with an error."""
    try:
        chosen = format_of(path)
    except InputError as error:
        yield Entry(str(path), where=str(path), error=error)
    else:
        yield from chosen.read(path, options or ReadOptions())
