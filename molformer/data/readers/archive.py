"""An NPZ archive, read one array at a time: checked, never unpickled, with errors in one line."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molformer.data.readers.files import npy_header, open_bytes, read_npy
from molformer.errors import DAMAGE, InputError, one_line


@dataclass(frozen=True)
class Archive:
    """The arrays of an NPZ file, which are read when they are asked for."""

    path: Path
    members: zipfile.ZipFile

    @property
    def names(self) -> list[str]:
        """Names of the arrays, in the file's order."""
        return [name.removesuffix(".npy") for name in self.members.namelist() if name.endswith(".npy")]

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape of an array and the letter of its numpy kind, without reading it.

        Raises:
            InputError: the array is damaged.
        """
        try:
            with self.members.open(f"{name}.npy") as file:
                shape, dtype = npy_header(file)
        except DAMAGE as error:
            raise InputError(f"'{self.path}': array '{name}' is damaged: {one_line(error)}") from None
        return shape, dtype.kind

    def load(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array of some numpy kinds, such as `fiu` (numbers) or `US` (text), and of a shape, None for any length.

        Raises:
            InputError: there is no such array, or it is damaged, of other values or of another shape.
        """
        if name not in self.names:
            raise InputError(f"'{self.path}' has no array '{name}'; its arrays: {', '.join(self.names) or 'none'}")
        found, kind = self.header(name)
        if kind == "O":
            raise InputError(
                f"'{self.path}': array '{name}' holds Python objects, which are never unpickled; save it as an array "
                "of numbers or of text"
            )
        if kind not in kinds:
            raise InputError(f"'{self.path}': array '{name}' is not one of {'text' if 'U' in kinds else 'numbers'}")
        if len(found) != len(shape) or any(b not in (None, a) for a, b in zip(found, shape, strict=True)):
            expected = ", ".join("any" if length is None else str(length) for length in shape)
            raise InputError(f"'{self.path}': array '{name}' has shape {found}, expected ({expected})")
        try:
            with self.members.open(f"{name}.npy") as file:
                # Bytes that there are of it, whatever the directory says.
                there = min(self.members.getinfo(f"{name}.npy").compress_size, self.members.start_dir)
                return read_npy(file, there)
        except DAMAGE as error:
            raise InputError(f"'{self.path}': array '{name}' is damaged: {one_line(error)}") from None

    def words(self, name: str, count: int) -> list[str]:
        """An array of text (count,), as strings.

        Raises:
            InputError: as `load`.
        """
        values = self.load(name, "US", (count,)).tolist()
        return [word.decode(errors="replace") if isinstance(word, bytes) else word for word in values]

    def word(self, name: str) -> str:
        """An array of one word, such as a unit; nothing where there is no such array.

        Raises:
            InputError: it is not one word of text.
        """
        if name not in self.names:
            return ""
        word = self.load(name, "US", tuple(1 for _ in self.header(name)[0])).item()
        return word.decode(errors="replace") if isinstance(word, bytes) else word


@contextmanager
def open_archive(path: Path, max_bytes: int) -> Iterator[Archive]:
    """An NPZ file, unpacked first if its name ends in `.gz`.

    Raises:
        InputError: the file is missing, empty, damaged, too large or of another kind.
    """
    with open_bytes(path, max_bytes) as stream:
        packed = path.suffix.lower() == ".gz"
        try:
            # Not by numpy.load, which leaves the file open where it is not an archive.
            members = zipfile.ZipFile(io.BytesIO(stream.read()) if packed else path)
        except DAMAGE as error:
            raise InputError(f"'{path}' is not a complete archive of arrays (NPZ): {one_line(error)}") from None
    with members:
        if sum(member.file_size for member in members.infolist()) > max_bytes:
            raise InputError(f"'{path}' is larger than allowed: raise max_bytes if it is meant to be so large")
        yield Archive(path, members)
