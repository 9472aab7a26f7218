"""What is known of a public data set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from molformer.data.readers import Entry, ReadOptions, read_file
from molformer.targets import Label


@dataclass(frozen=True)
class RemoteFile:
    """A file that is published somewhere.

    Args:
        filename: its name on disk.
        urls: where it is, the first that answers is taken.
        size: bytes, None where the publisher does not say.
        md5: published checksum, empty where there is none.
    """

    filename: str
    urls: tuple[str, ...]
    size: int | None = None
    md5: str = ""


@dataclass(frozen=True)
class DataSet:
    """A public data set, or one that is made here; it has files and a reader, or `generate`.

    Args:
        name: its name here.
        title: one line that says what it is.
        labels: with units and kinds.
        licence: of the data, as their publisher says.
        citation: what to cite.
        files: the first is the one that the reader takes.
        reader: gives the entries of the first file.
        generate: makes as many entries as are asked for, from a seed.
        count: how many there are of a data set that is made here.
    """

    name: str
    title: str
    labels: tuple[Label, ...]
    licence: str
    citation: str
    files: tuple[RemoteFile, ...] = ()
    reader: Callable[[Path, "DataSet"], Iterator[Entry]] | None = None
    generate: Callable[[int, int], Iterator[Entry]] | None = None
    count: int = 0


def read_by_suffix(path: Path, dataset: DataSet, smiles_column: str = "") -> Iterator[Entry]:
    """Entries of a file whose format its name tells, with the labels of the data set."""
    yield from read_file(path, ReadOptions(targets=dataset.labels, smiles_column=smiles_column))
