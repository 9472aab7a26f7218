"""Arrays of an NPZ or HDF5 file by their names, whichever of the two it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molformer.data.readers.archive import open_archive
from molformer.data.readers.files import suffix_of
from molformer.data.readers.hdf5_members import member, open_hdf5
from molformer.errors import InputError


def named_arrays(path: Path, max_bytes: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a file has, whole; nothing is ever unpickled.

    Raises:
        InputError: the file is missing or damaged, h5py is needed and missing, or the arrays exceed `max_bytes`.
    """
    if suffix_of(path) == ".npz":
        with open_archive(path, max_bytes) as archive:
            found = [name for name in names if name in archive.names]
            return {name: archive.load(name, "fiubUS", archive.header(name)[0]) for name in found}
    with open_hdf5(path, max_bytes) as file:
        there = {*file}  # `in file` would follow links
        members = {name: member(file, name) for name in names if name in there}
        arrays = {name: each for name, each in members.items() if hasattr(each, "dtype")}
        size = sum(each.nbytes for each in arrays.values())
        if size > max_bytes:
            raise InputError(f"'{path}' is larger than allowed: raise max_bytes if its arrays are meant to be so large")
        return {name: np.asarray(each) for name, each in arrays.items()}
