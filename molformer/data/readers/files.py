"""Opening files safely: gzip, encodings, sizes, and errors in one line."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from molformer.errors import InputError


@contextmanager
def open_bytes(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """A file's content, unpacked if its name ends in `.gz`; reading beyond `max_bytes` is an error.

    Raises:
        InputError: it is missing, unreadable, damaged, empty or too large.
    """
    try:
        raw = open(path, "rb")  # noqa: SIM115 - closed below; errors of the caller's block are not errors of the file
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    with raw:
        stream = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        buffered = io.BufferedReader(_Limited(stream, path, max_bytes), 1 << 20)  # type: ignore[type-var]
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
        with open_bytes(path, max_bytes) as stream:
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

    def __init__(self, stream: BinaryIO | gzip.GzipFile, path: Path, limit: int) -> None:
        self._stream, self._path, self._left = stream, path, limit

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
        buffer[: len(data)] = data
        return len(data)
