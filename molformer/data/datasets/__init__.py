"""Public and generated data sets by name: metadata, download, reading and generation.

The data are not part of this package: a data set is downloaded, read from a local file, or generated from a seed.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from molformer.data.datasets.clouds import CLOUDS
from molformer.data.datasets.dataset import DataSet, RemoteFile
from molformer.data.datasets.download import Progress, download, place
from molformer.data.datasets.moleculenet import MOLECULENET
from molformer.data.datasets.nbody import NBODY
from molformer.data.datasets.quantum import QUANTUM
from molformer.data.datasets.shapes import SHAPES
from molformer.data.readers import Entry, Format, ReadOptions
from molformer.errors import InputError

__all__ = ["DataSet", "RemoteFile", "fetch", "generate", "info", "names", "read"]

_ALL = {dataset.name: dataset for dataset in (*QUANTUM, *MOLECULENET, *CLOUDS, *NBODY, *SHAPES)}


def names() -> list[str]:
    """Names of all data sets.

    Example:
        >>> "qm9" in names()
        True
    """
    return list(_ALL)


def info(name: str) -> DataSet:
    """Metadata of a data set.

    Raises:
        InputError: there is none of this name.

    Example:
        >>> info("rmd17/ethanol").licence
        'CC0 1.0'
    """
    if name not in _ALL:
        near = get_close_matches(name, _ALL, n=3, cutoff=0.4) or ["qm9", "rmd17/ethanol", "moleculenet/esol"]
        raise InputError(f"there is no data set '{name}'; some that there are: {', '.join(near)}")
    return _ALL[name]


def fetch(name: str, folder: str | Path, file: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Download the files of a data set that are missing in a folder; interrupted downloads are resumed.

    Args:
        name: see `names`.
        folder: for the files; created if missing.
        file: local copy of the first file of the data set, with others beside it.
        progress: called with the downloaded and total number of bytes, None if unknown.

    Returns:
        The first file of the data set, the argument of `read`.

    Raises:
        InputError: there is no such data set, or a file cannot be downloaded or differs from the published one.
    """
    dataset = info(name)
    if not dataset.files:
        raise InputError(f"'{name}' is made, not read: it has no file")
    folder = Path(folder)
    for number, remote in enumerate(dataset.files):
        there = None if file is None else Path(file) if number == 0 else Path(file).with_name(remote.filename)
        if there is not None and (number == 0 or there.is_file()):
            place(remote, there, folder)
        else:
            download(remote, folder, progress)
    return folder / dataset.files[0].filename


def read(name: str, path: str | Path) -> Iterator[Entry]:
    """Entries of a data set, with all of its labels, from the file that `fetch` returned.

    Raises:
        InputError: there is no such data set, or it has no file.
    """
    dataset = info(name)
    reader = dataset.reader
    if reader is None:
        raise InputError(f"'{name}' is made, not read: it has no file")
    return Format(lambda file, _: reader(file, dataset)).read(Path(path), ReadOptions())


def generate(name: str, count: int = 0, seed: int = 0) -> Iterator[Entry]:
    """Entries of a generated data set, reproducible by seed; as many as published if `count` is 0.

    Raises:
        InputError: there is no such data set, or it is a published one.

    Example:
        >>> next(generate("nbody-paper", count=1)).structure.features.shape
        (5, 4)
    """
    dataset = info(name)
    if dataset.generate is None:
        raise InputError(f"'{name}' is published, not made: it can be downloaded")
    return dataset.generate(count or dataset.count, seed)
