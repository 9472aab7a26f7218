"""From a request to entries: texts and uploaded files. No path that a request names is ever opened.

What has lines is written to a temporary file under a name of our own, whose ending alone comes from the request, and
read like any file.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from molformer.data.readers import SUFFIXES, Entry, ReadOptions, read_file
from molformer.data.readers.files import suffix_of
from molformer.errors import InputError, TooLargeError
from molformer.serving.limits import Limits

LINKING = (".h5", ".hdf5", ".safetensors")
"""Files that can refer to others, which would be opened with them, or that are mapped and not read."""

UPLOADS = tuple(suffix for suffix in SUFFIXES if suffix not in LINKING)
"""Endings of the files that can be uploaded, each also with `.gz`."""


def entry_of_text(text: str, limits: Limits) -> Entry:
    """The entry of a SMILES, or of the content of an XYZ file or MOL block with one molecule.

    Example:
        >>> entry_of_text(" CCO ", Limits()).smiles
        'CCO'
    """
    text = encodable(text)
    if "\n" not in text.strip("\n") and "\r" not in text.strip("\r\n"):
        return _checked(Entry(text.strip(), smiles=text.strip()), limits)
    suffix = ".mol" if "M  END" in text else ".xyz"
    entries = read_content(text.encode(), suffix, "the text", limits)
    if len(entries) > 1:
        return Entry("the text", error=InputError("the text holds several molecules: send them as a file"))
    entry = entries[0]
    formula = entry.structure.formula if entry.structure else entry.smiles
    return replace(entry, name=formula if entry.name.startswith("the text") and formula else entry.name)


def entries_of_file(content: bytes, name: str, limits: Limits) -> list[Entry]:
    """Entries of an uploaded file, one more than allowed if it has too many.

    Args:
        content: of the file.
        name: as the request has it; its ending says what the file is.
        limits: of the server.

    Raises:
        InputError: files of this kind cannot be read here.
    """
    shown = Path(encodable(name).replace("\\", "/")).name
    suffix = suffix_of(Path(shown))
    if suffix not in UPLOADS:
        raise InputError(f"files of type '{suffix}' cannot be read here; use {', '.join(UPLOADS)}")
    packed = ".gz" if shown.lower().endswith(".gz") else ""
    return read_content(content, suffix + packed, shown, limits)


def read_content(content: bytes, suffix: str, shown: str, limits: Limits) -> list[Entry]:
    """Entries of the content of a file of a known ending, whose messages call it `shown`."""
    with TemporaryDirectory(prefix="molformer-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        entries = list(islice(read_file(path, ReadOptions(max_bytes=limits.body)), limits.molecules + 1))
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


def encodable(text: str) -> str:
    """The text with question marks for halves of surrogate pairs, which JSON may hold and no answer can."""
    return text.encode("utf-8", "replace").decode()
