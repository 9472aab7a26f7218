"""Structure stores among other inputs; see `molformer.data.store`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.store import StructureStore
from molformer.data.structure import Label
from molformer.errors import InputError, StoreError


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Entries of a store, in its order; see `Format.read`."""
    try:
        store = StructureStore(path)
    except StoreError as error:
        yield Entry(str(path), where=str(path), error=InputError(str(error)))
        return
    for row, structure in enumerate(store):
        where = f"{path}, structure {row + 1}"
        yield Entry(structure.name or structure.smiles or where, where, structure, structure.smiles)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """Those of the store, and with targets these; see `Format.labels`."""
    if options.targets:
        return list(options.targets)
    try:
        return list(StructureStore(path).labels.values())
    except StoreError:
        return []  # `read` says what is wrong with the file


def names(path: Path, options: ReadOptions) -> Iterable[str]:
    """Labels of the store; see `Format.names`."""
    try:
        return StructureStore(path).labels
    except StoreError:
        return ()


FORMAT = Format("structure store", (".safetensors",), read, labels, names)
