"""Atomic writing of files, conversion of system errors, and safe CSV fields."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from molformer.errors import InputError, MolformerError


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A folder beside a file, in which it is written, and removed at the end; with those of processes that were killed.

    A folder is in use as long as its process holds a lock, which ends with the process however that ends.
    """
    for folder in path.parent.glob(".*.draft"):
        with suppress(OSError), open(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent))
    try:
        with open(folder / "unlocked", "w") as lock:
            with suppress(OSError):  # a file system without locks: nobody removes what is left then
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(folder / "unlocked", folder / "lock")
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: str | os.PathLike[str], kind: type[MolformerError] = InputError) -> Iterator[None]:
    """Context that converts system errors in writing a file to errors with a message for users.

    Raises:
        MolformerError: of that kind, if the disk is full or the like.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write '{path}': {error.strerror or error}") from None


def plain_field(text: str) -> str:
    """A text as a field of a CSV file, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
