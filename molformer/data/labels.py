"""Labels as a user writes them: NAME, NAME=KIND or NAME=KIND,UNIT."""

from collections.abc import Sequence
from pathlib import Path

from molformer.data.known_labels import known_label
from molformer.data.readers import ReadOptions, format_of, is_file
from molformer.data.readers.files import suffix_of
from molformer.errors import InputError
from molformer.targets import Label, kind_names

_TABLES = (".csv", ".tsv", ".parquet")
_OWN_UNITS = (".xyz", ".extxyz")


def parse_targets(texts: Sequence[str], inputs: Sequence[str | Path] = ()) -> tuple[Label, ...]:
    """Labels from a command line.

    What is not said is looked up: a well-known name has a kind and unit, a column of a table is looked at.

    Args:
        texts: `gap`, `gap=intensive` or `gap=intensive,eV`.
        inputs: where the labels come from.

    Raises:
        InputError: a kind is not known, or cannot be found out.
        UnitError: a unit is not known.

    Example:
        >>> parse_targets(["gap=intensive,meV"])[0].unit
        'meV'
    """
    return tuple(_parse(text, inputs) for text in texts)


def _parse(text: str, inputs: Sequence[str | Path]) -> Label:
    name, _, rest = text.partition("=")
    kind, _, unit = rest.partition(",")
    if kind and kind not in kind_names():
        raise InputError(f"'{text}': '{kind}' is not a kind of label; use {', '.join(kind_names())}")
    tables = [Path(path) for path in inputs if is_file(path) and suffix_of(Path(path)) in _TABLES]
    if not kind and tables:
        from molformer.data.readers.table import guess_label

        return guess_label(tables[0], name)
    known = known_label(name)
    if not kind and known is not None:
        known = next((label for path in inputs for label in _told(path) if label.name == name), known)
    if not kind and known is None:
        raise InputError(f"'{name}' is not a well-known property: say its kind, such as {name}=intensive,eV")
    if not kind and known is not None:
        return known
    return Label(name, unit, kind)


def _told(path: str | Path) -> list[Label]:
    """The labels of an XYZ file, whose values have units of its format, not those of the data set of a name."""
    if not is_file(path) or suffix_of(Path(path)) not in _OWN_UNITS:
        return []
    return format_of(Path(path)).labels(Path(path), ReadOptions())
