"""What is known of a public data set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from molformer.data.readers import Entry, ReadOptions, read_file
from molformer.targets import Label


@dataclass(frozen=True)
class RemoteFile:
    """A file that is published somewhere."""

    filename: str  #: its name on disk
    urls: tuple[str, ...]  #: where it is, the first that answers is taken
    size: int | None = None  #: bytes, None where the publisher does not say
    md5: str = ""  #: published checksum, empty where there is none


@dataclass(frozen=True)
class DataSet:
    """A public data set, or one that is made here; it has files and a reader, or `generate`."""

    name: str  #: its name here
    title: str  #: one line that says what it is
    labels: tuple[Label, ...]  #: with units and kinds
    licence: str  #: of the data, as their publisher says
    citation: str  #: what to cite
    files: tuple[RemoteFile, ...] = ()  #: the first is the one that the reader takes
    reader: Callable[[Path, "DataSet"], Iterator[Entry]] | None = None  #: gives the entries of the first file
    generate: Callable[[int, int], Iterator[Entry]] | None = None  #: makes as many entries as asked for, from a seed
    count: int = 0  #: how many there are of a data set that is made here


def read_by_suffix(path: Path, dataset: DataSet, smiles_column: str = "") -> Iterator[Entry]:
    """Entries of a file whose format its name tells, with the labels of the data set."""
    yield from read_file(path, ReadOptions(targets=dataset.labels, smiles_column=smiles_column))
