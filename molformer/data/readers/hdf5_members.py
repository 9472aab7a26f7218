"""Members of an HDF5 file that are in this file: it can refer to others of the machine, which are never opened."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from molformer.data.readers.files import check_declared, open_bytes
from molformer.errors import DAMAGE, InputError, extra, one_line


@contextmanager
def open_hdf5(path: Path, max_bytes: int) -> Iterator[Any]:
    """An HDF5 file, unpacked first if its name ends in `.gz`.

    Raises:
        InputError: h5py is not installed, or the file is missing, empty, damaged or too large.
    """
    with extra("hdf5", f"'{path}' needs h5py", InputError):
        import h5py

    with open_bytes(path, max_bytes) as stream:
        packed = path.suffix.lower() == ".gz"
        try:
            with h5py.File(io.BytesIO(stream.read()) if packed else path, "r") as file:
                yield file
        except DAMAGE as error:
            raise InputError(f"'{path}' is not a complete HDF5 file: {one_line(error)}") from None


def member(group: Any, name: str) -> Any:
    """A group or array of a group of an open file, by a name that is one of its keys.

    Raises:
        ValueError: it is a link, its values are in another file, or it is said to be larger than what the file has.
    """
    import h5py

    # Not by `group.get` or `in`, which open what a link points to.
    if group.id.links.get_info(name.encode(errors="surrogateescape")).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"'{name}' is a link to another place or file, which is not followed: copy the array itself")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise ValueError(
                f"the values of '{name}' are in another file, which is not opened: copy them into this one"
            )
        check_declared(found.nbytes, found.id.get_storage_size())
    return found
