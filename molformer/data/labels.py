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


def split_target(text: str) -> tuple[str, str, str]:
    """Name, kind and unit of a label, the last two empty where they are not said; a name may have = in it.

    Example:
        >>> split_target("gap=intensive,meV"), split_target("pH=7")
        (('gap', 'intensive', 'meV'), ('pH=7', '', ''))
    """
    name, _, rest = text.rpartition("=")
    kind, _, unit = rest.partition(",")
    return (name, kind, unit) if name and kind in kind_names() else (text, "", "")


def parse_targets(
    texts: Sequence[str], inputs: Sequence[str | Path] = (), options: ReadOptions | None = None
) -> tuple[Label, ...]:
    """Labels from a command line.

    What is not said is looked up: a well-known name has a kind and unit, a column of a table is looked at.

    Args:
        texts: `gap`, `gap=intensive` or `gap=intensive,eV`.
        inputs: where the labels come from.
        options: how they are read.

    Raises:
        InputError: a kind is not known, or cannot be found out.
        UnitError: a unit is not known.

    Example:
        >>> parse_targets(["gap=intensive,meV"])[0].unit
        'meV'
    """
    tables = [Path(path) for path in inputs if is_file(path) and suffix_of(Path(path)) in _TABLES]
    wanted = [split_target(text) for text in dict.fromkeys(texts)]
    found: dict[str, Label] = {}
    if tables:
        from molformer.data.readers.table import guess_labels

        looked_at = [(name, kind) for name, kind, _ in wanted if kind in ("", "category")]
        try:
            labels = guess_labels(tables[0], looked_at, options)
        except InputError as error:
            meant = [name for name, kind in looked_at if "=" in name and not kind]
            kinds = f"; a kind, after =, is {', '.join(kind_names())}" if meant else ""
            raise InputError(f"{error}{kinds}") from None
        found = dict(zip([name for name, _ in looked_at], labels, strict=True))
    return tuple(found.get(name) or _label(name, kind, unit, inputs) for name, kind, unit in wanted)


def _label(name: str, kind: str, unit: str, inputs: Sequence[str | Path]) -> Label:
    if kind == "category":
        raise InputError(f"'{name}={kind}': the classes of a label are looked up in a table alone (.csv .tsv .parquet)")
    if kind:
        return Label(name, unit, kind)
    if known := known_label(name):
        return next((label for path in inputs for label in _told(path) if label.name == name), known)
    _, equals, wrong = name.rpartition("=")
    if equals:
        raise InputError(f"'{name}': '{wrong}' is not a kind of label; use {', '.join(kind_names())}")
    raise InputError(f"'{name}' is not a well-known property: say its kind, such as {name}=intensive,eV")


def _told(path: str | Path) -> list[Label]:
    """The labels of an XYZ file, whose values have units of its format, not those of the data set of a name."""
    if not is_file(path) or suffix_of(Path(path)) not in _OWN_UNITS:
        return []
    return format_of(Path(path)).labels(Path(path), ReadOptions())
