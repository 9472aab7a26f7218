"""Arrays of an NPZ or HDF5 file by their names, whichever of the two it is."""

import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molformer.data.readers.archive import packed_size
from molformer.data.readers.files import open_bytes, read_npy, suffix_of
from molformer.data.readers.hdf5_members import member
from molformer.errors import DAMAGE, InputError, one_line


def named_arrays(path: Path, max_bytes: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a file has, whole; nothing is ever unpickled.

    Raises:
        InputError: the file is missing or damaged, h5py is needed and missing, or the arrays exceed `max_bytes`.
    """
    load = _npz if suffix_of(path) == ".npz" else _hdf5
    content: Path | io.BytesIO = path
    with open_bytes(path, max_bytes) as file:  # says so if there is no such file, or an empty one
        if path.suffix.lower() == ".gz":
            content = io.BytesIO(file.read())
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of files that Python 2 wrote
            return load(content, names, max_bytes)
    except ImportError:
        raise InputError(f"'{path}' needs h5py: pip install 'molformer[points]'") from None
    except DAMAGE as error:
        raise InputError(f"'{path}' is not a complete {suffix_of(path)[1:].upper()} file: {one_line(error)}") from None


def _npz(content: Path | io.BytesIO, names: Sequence[str], max_bytes: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(content) as archive:
        found = [name for name in names if f"{name}.npy" in archive.namelist()]
        _refuse_large(sum(archive.getinfo(f"{name}.npy").file_size for name in found), max_bytes)
        arrays = {}
        for name in found:
            with archive.open(f"{name}.npy") as member:
                arrays[name] = read_npy(member, packed_size(archive, name))
        return arrays


def _hdf5(content: Path | io.BytesIO, names: Sequence[str], max_bytes: int) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(content, "r") as file:
        there = {*file}  # `in file` would follow links
        found = {name: member(file, name) for name in names if name in there}
        found = {name: each for name, each in found.items() if isinstance(each, h5py.Dataset)}
        _refuse_large(sum(each.nbytes for each in found.values()), max_bytes)
        return {name: np.asarray(each) for name, each in found.items()}


def _refuse_large(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(f"its arrays have {size} bytes: raise max_bytes if they are meant to be so large")
