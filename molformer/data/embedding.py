"""Geometries for entries that have none, one after another, in their order."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from molformer.data.readers.entry import Entry
from molformer.errors import MolformerError


def with_geometry(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same entries; where there is only a SMILES, with a structure or with the reason why there is none.

    Args:
        entries: as readers give them.
    """
    from molformer.data.conformers import embed_smiles

    for entry in entries:
        if entry.structure is not None or entry.error is not None:
            yield entry
            continue
        try:
            structure = embed_smiles(entry.smiles, name=entry.where)
            yield replace(entry, structure=replace(structure, labels=entry.labels))
        except MolformerError as error:
            yield replace(entry, error=error)
