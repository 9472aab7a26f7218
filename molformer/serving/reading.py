"""From a request to entries: texts and uploaded files. No path that a request names is ever opened.

What has lines is written to a temporary file under a name of our own, whose ending alone comes from the request, and
read like any file, by a worker process (see `preparation`).
"""

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

from molformer.data.readers import SUFFIXES, Entry, ReadOptions, read_file
from molformer.data.readers.files import suffix_of
from molformer.errors import InputError, TooLargeError, encodable
from molformer.serving.limits import Limits

logger = logging.getLogger(__name__)

LINKING = (".h5", ".hdf5", ".safetensors")  # may refer to other files, or are mapped and not read
UPLOADS = tuple(suffix for suffix in SUFFIXES if suffix not in LINKING)  # each also with `.gz`


def entry_of_line(text: str, limits: Limits) -> Entry | None:
    """The entry of a SMILES; None for a text of several lines, which is the content of a file.

    Example:
        >>> entry_of_line(" CCO ", Limits()).smiles
        'CCO'
    """
    text = encodable(text)
    if "\n" in text.strip("\n") or "\r" in text.strip("\r\n"):
        return None
    return _checked(Entry(text.strip(), smiles=text.strip()), limits)


def named_by_formula(entries: list[Entry]) -> Entry:
    """The only entry of a text, which has no name of its own."""
    if len(entries) > 1:
        return Entry("the text", error=InputError("the text holds several molecules: send them as a file"))
    entry = entries[0]
    formula = entry.structure.formula if entry.structure else entry.smiles
    return replace(entry, name=formula if entry.name.startswith("the text") and formula else entry.name)


def name_and_suffix(name: str) -> tuple[str, str]:
    """The name of an uploaded file without folders, and its ending, which says what it is.

    Raises:
        InputError: files of this kind cannot be read here.

    Example:
        >>> name_and_suffix("../two.XYZ.gz")
        ('two.XYZ.gz', '.xyz.gz')
    """
    shown = Path(encodable(name).replace("\\", "/")).name
    suffix = suffix_of(Path(shown))
    if suffix not in UPLOADS:
        raise InputError(f"files of type '{suffix}' cannot be read here; use {', '.join(UPLOADS)}")
    return shown, suffix + (".gz" if shown.lower().endswith(".gz") else "")


def read_upload(path: Path, shown: str, limits: Limits) -> list[Entry]:
    """Entries of a file whose messages call it `shown`, one more than allowed if it has too many.

    What a reader did not foresee is an error of the file too: nobody but its sender could mend it.
    """
    entries: list[Entry] = []
    try:
        entries.extend(islice(read_file(path, ReadOptions(max_bytes=limits.body)), limits.molecules + 1))
    except MemoryError:
        raise
    except Exception as error:
        logger.warning("a reader failed: %s: %s", type(error).__name__, error)
        entries.append(Entry(str(path), error=InputError(f"'{path}' cannot be read to its end: it is damaged")))
    return [_checked(_renamed(entry, str(path), shown), limits) for entry in entries]


def _renamed(entry: Entry, path: str, shown: str) -> Entry:
    """The entry with the name that the user knows instead of that of the temporary file."""
    error = entry.error and type(entry.error)(str(entry.error).replace(path, shown))
    structure = entry.structure and replace(entry.structure, name=entry.structure.name.replace(path, shown), labels={})
    name, where = entry.name.replace(path, shown), entry.where.replace(path, shown)
    return replace(entry, name=name, where=where, error=error, structure=structure, labels={})


def _checked(entry: Entry, limits: Limits) -> Entry:
    """The entry, or a row that says that it is too large."""
    if len(entry.smiles) > limits.characters and entry.structure is None:
        name = f"{entry.smiles[:40]}…"
        message = f"{name}: a SMILES of {len(entry.smiles)} characters, more than the {limits.characters} allowed"
        return Entry(name, where=entry.where, error=TooLargeError(message))
    if entry.structure is not None and len(entry.structure) > limits.atoms:
        message = f"{entry.name}: it has {len(entry.structure)} atoms, more than the {limits.atoms} allowed"
        return Entry(entry.name, where=entry.where, error=TooLargeError(message))
    return entry
