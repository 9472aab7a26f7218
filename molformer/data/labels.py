"""Parsing of label specifications: NAME, NAME=KIND or NAME=KIND,UNIT."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from molformer.data.known_labels import known_label
from molformer.data.readers import ReadOptions, format_of, is_file
from molformer.data.readers.files import suffix_of
from molformer.errors import InputError
from molformer.targets import Label, kind_names

_TABLES = (".csv", ".tsv", ".parquet")
_OWN_UNITS = (".xyz", ".extxyz")


def split_target(text: str) -> tuple[str, str, str]:
    """Name, kind and unit of a label, the last two empty if not given; a name may contain =.

    Example:
        >>> split_target("gap=intensive,meV"), split_target("pH=7")
        (('gap', 'intensive', 'meV'), ('pH=7', '', ''))
    """
    name, _, rest = text.rpartition("=")
    kind, _, unit = rest.partition(",")
    return (name, kind, unit) if name and kind in kind_names() else (text, "", "")


def parse_targets(
    texts: Sequence[str | Label], inputs: Sequence[str | Path] = (), options: ReadOptions | None = None
) -> tuple[Label, ...]:
    """Labels from texts `gap`, `gap=intensive` or `gap=intensive,eV`; a label is taken as it is.

    Missing kinds and units are those of well-known names, or are inferred from the column of a table among the inputs.

    Raises:
        InputError: a kind is unknown, or cannot be inferred.
        UnitError: a unit is not known.

    Example:
        >>> parse_targets(["gap=intensive,meV"])[0].unit
        'meV'
    """
    tables = [Path(path) for path in inputs if is_file(path) and suffix_of(Path(path)) in _TABLES]
    found = {text.name: text for text in texts if isinstance(text, Label)}
    wanted = [
        (text.name, text.kind, "") if isinstance(text, Label) else split_target(text) for text in dict.fromkeys(texts)
    ]
    if tables:
        from molformer.data.readers.table import guess_labels

        unspecified = [(name, kind) for name, kind, _ in wanted if kind in ("", "category") and name not in found]
        try:
            labels = guess_labels(tables[0], unspecified, options)
        except InputError as error:
            meant = [name for name, kind in unspecified if "=" in name and not kind]
            kinds = f"; a kind, after =, is {', '.join(kind_names())}" if meant else ""
            raise InputError(f"{error}{kinds}") from None
        found |= dict(zip([name for name, _ in unspecified], labels, strict=True))
    return tuple(found.get(name) or _label(name, kind, unit, inputs) for name, kind, unit in wanted)


def with_kinds(labels: Mapping[str, Label], texts: Sequence[str]) -> dict[str, Label]:
    """Labels of a store, with the kinds that texts such as `mu=vector_length` name.

    Raises:
        InputError: the values are not of this kind, or not in the unit that a text names.
    """
    found = dict(labels)
    for name, kind, unit in map(split_target, texts):
        if kind and name in found and (kind, unit) != (found[name].kind, ""):
            label = found[name]
            asked = replace(label, kind=kind, unit=unit or label.unit)
            if not asked.target_kind.same_values(label.target_kind) or label.unit not in ("", asked.unit):
                raise InputError(
                    f"'{name}' is of kind '{label.kind}' in '{label.unit}' in the store, which cannot be taken as "
                    f"'{kind}' in '{asked.unit}'"
                )
            found[name] = asked
    return found


def _label(name: str, kind: str, unit: str, inputs: Sequence[str | Path]) -> Label:
    if kind == "category":
        raise InputError(f"'{name}={kind}': the classes of a label are looked up in a table alone (.csv .tsv .parquet)")
    if kind:
        return Label(name, unit, kind)
    if known := known_label(name):
        return next((label for path in inputs for label in _stated(path) if label.name == name), known)
    _, equals, wrong = name.rpartition("=")
    if equals:
        raise InputError(f"'{name}': '{wrong}' is not a kind of label; use {', '.join(kind_names())}")
    raise InputError(f"'{name}' is not a well-known property: say its kind, such as {name}=intensive,eV")


def _stated(path: str | Path) -> list[Label]:
    """Labels of an XYZ file, with the units of the format instead of those of well-known names."""
    if not is_file(path) or suffix_of(Path(path)) not in _OWN_UNITS:
        return []
    return format_of(Path(path)).labels(Path(path), ReadOptions())
