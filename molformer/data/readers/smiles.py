"""Files of SMILES: one a line, with a title after a blank if there is one; lines that start with # are comments."""

from collections.abc import Iterator
from pathlib import Path

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import open_text
from molformer.errors import InputError


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Entries of a file of SMILES, in its order."""
    found = False
    with open_text(path, options.max_bytes) as file:
        for row, line in enumerate(file, start=1):
            if line.strip() and not line.startswith("#"):
                found = True
                smiles, *title = line.split(maxsplit=1)
                name = title[0].strip() if title else smiles
                yield Entry(name, where=f"{path}, line {row}", smiles=smiles)
    if not found:
        raise InputError(f"'{path}' is empty")


FORMAT = Format(read)
