"""Safe opening of files: gzip, encodings, size limits, and errors in one line."""

import codecs
import gzip
import io
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from molformer.errors import InputError

MAX_LINE = 64 * 2**20  # bytes of a line of text: a packed file without line ends would otherwise fill the memory
_MOST_PACKED = 1100  # bytes for one of a packed array: deflate, which NPZ and HDF5 pack with, has at most 1,032


def check_declared(declared: int, there: int) -> None:
    """Refuse an array that is said to be larger than what a file has of it, before memory is taken for it.

    Raises:
        ValueError: they cannot hold it.
    """
    if not 0 <= declared <= _MOST_PACKED * there + 4096:
        raise ValueError(f"it is said to have {declared} bytes, and the file has {there} of it")


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in numpy's NPY format.

    Raises:
        ValueError: it is none; or another of `DAMAGE`.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of files that Python 2 wrote
        shape, _, dtype = read(file)
    return shape, dtype


def read_npy(file: IO[bytes], there: int) -> np.ndarray:
    """An array in NPY format, which is never unpickled, of a file that can be read twice and has `there` bytes.

    Raises:
        ValueError: it is none, or larger than what is there; or another of `DAMAGE`.
    """
    shape, dtype = npy_header(file)
    check_declared(math.prod(shape) * dtype.itemsize, there)
    file.seek(0)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def open_bytes(path: Path, max_bytes: int, max_line: int = 0) -> Iterator[BinaryIO]:
    """A file's content, unpacked if its name ends in `.gz`; reading beyond `max_bytes` is an error.

    So is a line of more than `max_line` bytes, unless that is 0.

    Raises:
        InputError: it is missing, unreadable, damaged, empty or too large.
    """
    try:
        raw = open(path, "rb")  # noqa: SIM115 - closed below; errors of the caller's block are not errors of the file
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    with raw:
        stream = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        buffered = io.BufferedReader(_Limited(stream, path, max_bytes, max_line), 1 << 20)  # type: ignore[type-var]
        if not buffered.peek(1):
            raise InputError(f"'{path}' is empty")
        yield buffered


@contextmanager
def open_text(path: Path, max_bytes: int) -> Iterator[io.TextIOWrapper]:
    """The same as text: UTF-8, or UTF-16 with a byte-order mark, any line ends.

    Raises:
        InputError: as `open_bytes`, or it is not text, or in another encoding.
    """
    try:
        with open_bytes(path, max_bytes, MAX_LINE) as stream:
            head = stream.peek(1)  # type: ignore[attr-defined]
            marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            if b"\0" in head[:8] and not marked:
                raise InputError(f"'{path}' is not a text file: it has bytes that are zero")
            yield io.TextIOWrapper(stream, encoding="utf-16" if marked else "utf-8-sig", newline=None)
    except UnicodeError as error:
        reason = f"byte {error.object[error.start]:#x}" if isinstance(error, UnicodeDecodeError) else error
        raise InputError(f"'{path}' is not a text file in UTF-8 ({reason}): save it as UTF-8") from None


def suffix_of(path: Path) -> str:
    """Ending of a file name in lower case, without a final `.gz`.

    Example:
        >>> suffix_of(Path("Set.SDF.gz"))
        '.sdf'
    """
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than a number of bytes: a small gzip file can unpack to terabytes."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, path: Path, limit: int, max_line: int) -> None:
        self._stream, self._path, self._left, self._max_line, self._line = stream, path, limit, max_line, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"'{self._path}' is a damaged gzip file: {error}") from None
        except OSError as error:
            raise InputError(f"cannot read '{self._path}': {error.strerror or error}") from None
        self._left -= len(data)
        if self._left < 0:
            raise InputError(f"'{self._path}' is larger than allowed: raise max_bytes if it is meant to be so large")
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._line = self._line + len(data) if end < 0 else len(data) - end
        if 0 < self._max_line < self._line:
            raise InputError(f"'{self._path}' has a line of more than {self._max_line} bytes: it is no text")
        buffer[: len(data)] = data
        return len(data)
