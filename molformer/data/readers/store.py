"""Structure stores among other inputs; see `molformer.data.store`."""

from collections.abc import Iterator
from pathlib import Path

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.store import StructureStore
from molformer.data.structure import Label


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Entries of a store, in its order."""
    for row, structure in enumerate(StructureStore(path)):
        where = f"{path}, structure {row + 1}"
        yield Entry(structure.name or structure.smiles or where, where, structure, structure.smiles)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """Those of the store."""
    return list(StructureStore(path).labels.values())


def names(path: Path, options: ReadOptions) -> list[str]:
    """Names of these; none if the store is damaged, of which `read` says what is wrong."""
    return [label.name for label in FORMAT.labels(path, ReadOptions())]


FORMAT = Format(read, labels, names)
