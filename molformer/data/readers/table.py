"""Tables with a SMILES column: CSV and TSV, row by row in constant memory, and Parquet.

The first row names the columns. A label's column has the label's name, or that name with a unit, such as `gap (eV)`;
values are converted from the unit of the heading to that of the label. An empty field is a missing label (NaN).
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from molformer import units
from molformer.data.readers.entry import Entry, Format, ReadOptions, chosen_labels
from molformer.data.readers.files import open_text, suffix_of
from molformer.data.structure import Label
from molformer.errors import InputError, MolformerError, UnitError

SMILES_COLUMNS = (
    *("smiles", "canonicalsmiles", "isomericsmiles", "smi", "smile"),
    *("mol", "molecule", "structure", "compound"),
)
"""Headings of a SMILES column, best first, in lower case without blanks, hyphens and underscores."""

NAME_COLUMNS = (
    *("name", "title", "id", "molid", "moleculeid", "compoundid", "moleculename", "compoundname"),
    *("identifier", "chemblid", "moleculechemblid", "zincid", "cid", "inchikey"),
)
"""Headings of a column with the titles of the rows, likewise."""

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "<na>"))
"""Spellings, in lower case, of a label that is not there."""

MAX_CLASSES = 50
"""A column with more different texts is not taken for a category."""

GUESS_ROWS = 1000
"""Rows from which `guess_label` guesses."""

_MAX_LINE = 16 * 2**20  # characters; a file without line ends would otherwise be read into memory as a whole
_BATCH_ROWS = 8192
_TRUTH = {"true": 1.0, "false": 0.0}
_HEADING = re.compile(r"(?P<name>.*\S)\s*(?:\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\])")


@dataclass(frozen=True)
class _Table:
    """An open table: its columns, and an iterator of (where, fields, error), one for each data row."""

    columns: list[str]
    rows: Iterator[tuple[str, Sequence[Any], InputError | None]]


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Entries of a table, in its order; see `Format.read`."""
    found = False
    try:
        with _open(path, options.max_bytes) as table:
            smiles_at = smiles_column(table.columns, options.smiles_column, path)
            targets = [_target(label, table.columns, path) for label in options.targets]
            used = {smiles_at, *(index for index, _, _ in targets)}
            name_at = _name_column(table.columns, used)
            for where, fields, error in table.rows:
                found = True
                if error is not None:
                    yield Entry(where, where=where, error=error)
                    continue
                smiles = str(fields[smiles_at] or "").strip()
                name = (str(fields[name_at] or "").strip() if name_at is not None else "") or smiles or where
                try:
                    if not smiles:
                        raise InputError(f"{where}: the SMILES is empty")
                    labels = {label.name: convert(fields[index], where) for index, label, convert in targets}
                except InputError as problem:
                    yield Entry(name, where=where, error=problem)
                else:
                    yield Entry(name, where=where, smiles=smiles, labels=labels)
        if not found:
            raise InputError(f"'{path}' has a header but no rows")
    except MolformerError as error:
        yield Entry(str(path), where=str(path), error=error)


def column_names(path: Path) -> list[str]:
    """Names of the columns of a table.

    Raises:
        InputError: the file is no table, or two columns have one name.
    """
    with _open(path, ReadOptions().max_bytes) as table:
        return table.columns


def guess_label(path: Path, column: str) -> Label:
    """What the values of a column look like: binary, numbers, or the names of classes.

    Args:
        path: a table.
        column: one of its columns. Its heading may end in a unit that `molformer.units` knows, `gap (eV)` or
            `gap [eV]`; the label is then called `gap`.

    Returns:
        A label of kind `binary`, `intensive` (if most values are numbers) or `category`, from the first `GUESS_ROWS`
        rows.

    Raises:
        InputError: there is no such column, it has no values, or they are too many different texts.
    """
    values: dict[str, None] = {}
    numbers = texts = 0
    with _open(path, ReadOptions().max_bytes) as table:
        index = _index(table.columns, column, path)
        for _, fields, error in islice(table.rows, GUESS_ROWS):
            if error is None and (text := _text(fields[index])).lower() not in MISSING:
                values[text] = None
                texts += 1
                numbers += _number(text) is not None
    if not values:
        raise InputError(f"'{path}': column '{column}' has no values in its first {GUESS_ROWS} rows")
    name, unit = split_heading(table.columns[index])
    if all(_binary(value) is not None for value in values):
        return Label(name, "", "binary")
    wrong = next((value for value in values if _number(value) is None), None)
    if 2 * numbers > texts:  # what is no number among many is a mistake, and rejected as a row of its own
        return Label(name, unit, "intensive")
    if 1 < len(values) <= MAX_CLASSES:
        return Label(name, "", "category", tuple(sorted(values)))
    raise InputError(
        f"'{path}': column '{column}' is no label: '{wrong}' is not a number, and {len(values)} different texts are "
        f"not 2 to {MAX_CLASSES} classes"
    )


def split_heading(heading: str) -> tuple[str, str]:
    """Name and unit of a column; the unit is empty, and the name the whole heading, if it ends in no known unit.

    Example:
        >>> split_heading("gap (eV)"), split_heading("logP (exp)")
        (('gap', 'eV'), ('logP (exp)', ''))
    """
    match = _HEADING.fullmatch(heading.strip())
    if match:
        try:
            unit = units.canonical(match["round"] or match["square"] or "")
        except UnitError:
            unit = ""
        if unit:
            return match["name"], unit
    return heading.strip(), ""


def label_value(label: Label, raw: Any, where: str) -> float:
    """The value of a label from a field of a table or a property of a record.

    Args:
        label: of a kind with one number a structure.
        raw: a text, or a number as Parquet keeps it.
        where: for messages.

    Returns:
        The number, 0 or 1, or the index of the class; NaN where it is missing.

    Raises:
        InputError: it is none of those.
    """
    text = _text(raw)
    value: float | None
    if label.classes:
        if text in label.classes:
            return float(label.classes.index(text))
        value, wanted = None, f"one of the classes {', '.join(label.classes)}"
    elif label.is_class:
        value, wanted = _binary(text), "0, 1, true or false"
    else:
        value, wanted = _number(text), "a finite number"
    if value is not None:
        return value
    if text.lower() in MISSING:
        return math.nan
    raise InputError(f"{where}: label '{label.name}' is '{text[:80]}', which is not {wanted}")


def smiles_column(columns: Sequence[str], wanted: str = "", path: Path | str = "") -> int:
    """Index of the column with the SMILES.

    Args:
        columns: the headings.
        wanted: the heading, if it is known.
        path: for messages.

    Raises:
        InputError: there is none, or it cannot be told which.

    Example:
        >>> smiles_column(["id", "Canonical_SMILES"])
        1
    """
    if wanted:
        return _index(columns, wanted, path)
    plain = [re.sub(r"[\s_-]", "", column.lower()) for column in columns]
    for name in SMILES_COLUMNS:
        if name in plain:
            return plain.index(name)
    possible = [index for index, name in enumerate(plain) if "smiles" in name]
    if len(possible) == 1:
        return possible[0]
    known = ", ".join(f"'{columns[index]}'" for index in possible or range(len(columns)))
    problem = "several columns may be the SMILES" if possible else "no column is called 'smiles'"
    raise InputError(f"'{path}': {problem}: name the column of SMILES, one of {known}")


def _index(columns: Sequence[str], wanted: str, path: Path | str) -> int:
    """Index of a column by its heading, whatever the case of its letters, with or without its unit."""
    readings: tuple[Callable[[str], str], ...] = (
        str.strip,
        str.lower,
        lambda text: split_heading(text)[0],
        lambda text: split_heading(text)[0].lower(),
    )
    for reading in readings:
        found = [index for index, column in enumerate(columns) if reading(column) == reading(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"'{columns[index]}'" for index in found)
            raise InputError(f"'{path}': '{wanted}' may be any of the columns {names}: write it as there")
    raise InputError(f"'{path}' has no column '{wanted}'; its columns: {', '.join(repr(name) for name in columns)}")


def _target(label: Label, columns: Sequence[str], path: Path) -> tuple[int, Label, Callable[[Any, str], np.ndarray]]:
    """Column of a label and the function from a field and its place to the label's value."""
    if label.per_node or label.shape:
        raise InputError(
            f"'{path}': label '{label.name}' of kind '{label.kind}' belongs to a geometry, and a table of SMILES has "
            "none: use a file with coordinates"
        )
    index = _index(columns, label.name, path)
    unit = split_heading(columns[index])[1]
    numeric = not label.is_class
    try:
        factor = units.factor(unit, label.unit) if numeric and unit and label.unit else 1.0
    except UnitError as error:
        raise InputError(f"'{path}', column '{columns[index]}' of label '{label.name}': {error}") from None
    return index, label, partial(_converted, label, factor)


def _converted(label: Label, factor: float, raw: Any, where: str) -> np.ndarray:
    value = label_value(label, raw, where)
    return np.array(value if factor == 1.0 else factor * value)


def _name_column(columns: Sequence[str], used: set[int]) -> int | None:
    plain = [re.sub(r"[\s_-]", "", column.lower()) for column in columns]
    found = (plain.index(name) for name in NAME_COLUMNS if name in plain)
    return next((index for index in found if index not in used), None)


def _text(raw: Any) -> str:
    return "" if raw is None else str(raw).strip()


def _number(text: str) -> float | None:
    """A finite number in ASCII digits, or None: not '1_000', 'inf', 'nan' or '½'."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _binary(text: str) -> float | None:
    value = _TRUTH.get(text.lower(), _number(text))
    return value if value in (0.0, 1.0) else None


@contextmanager
def _open(path: Path, max_bytes: int) -> Iterator[_Table]:
    """Open a table of any kind.

    Raises:
        InputError: it is no table, or two columns have one name; also while rows are read.
    """
    if ".parquet" in path.suffixes:
        yield _checked(_open_parquet(path, max_bytes), path)
    else:
        with open_text(path, max_bytes) as file:
            yield _checked(_open_csv(file, path), path)


def _checked(table: _Table, path: Path) -> _Table:
    twice = sorted({name for name in table.columns if name and table.columns.count(name) > 1})
    if twice:
        raise InputError(f"'{path}' has more than one column called '{twice[0]}': rename them")
    if not any(table.columns):
        raise InputError(f"'{path}' has no column names in its first row")
    return table


def _open_csv(file: TextIO, path: Path) -> _Table:
    lines = _lines(file, path)
    first = next((line for line in lines if line.strip()), "")
    delimiter = "\t" if suffix_of(path) == ".tsv" else max(",;\t", key=first.count)
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise InputError(f"'{path}': the header is damaged: {error}") from None
    return _Table(columns, _csv_rows(rows, len(columns), str(path)))


def _csv_rows(rows: Any, width: int, path: str) -> Iterator[tuple[str, Sequence[str], InputError | None]]:
    while True:
        before = rows.line_num
        try:
            for fields in rows:
                where = f"{path}, line {rows.line_num}"
                if len(fields) == width:
                    yield where, fields, None
                elif fields:
                    count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
                    yield where, fields, InputError(f"{where}: {count} where the header has {width}")
                before = rows.line_num
            return
        except csv.Error as error:
            lines = f"line {before + 1}" + (f" to {rows.line_num}" if rows.line_num > before + 1 else "")
            where = f"{path}, {lines}"
            yield where, (), InputError(f"{where}: not a row of a table ({error}): check its quotation marks")
            if "limit" in str(error):  # a quotation mark that is never closed: what follows cannot be told apart
                return


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise InputError(f"'{path}' has a line of more than {_MAX_LINE} characters: it is no table")
        yield line


def _open_parquet(path: Path, max_bytes: int) -> _Table:
    try:
        parquet = import_module("pyarrow.parquet")
        damage = import_module("pyarrow").ArrowException
    except ImportError:
        raise InputError(f"'{path}': Parquet files need pyarrow: pip install 'molformer[parquet]'") from None
    if path.suffix.lower() != ".parquet":
        raise InputError(f"'{path}': Parquet files are compressed inside: unpack it first")
    try:
        file = parquet.ParquetFile(path)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    except damage as error:
        raise InputError(f"'{path}' is not a Parquet file: {' '.join(str(error).split())[:200]}") from None
    size = sum(file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups))
    if size > max_bytes:
        raise InputError(f"'{path}' is larger than allowed: raise max_bytes if it is meant to be so large")
    return _Table([name.strip() for name in file.schema_arrow.names], _parquet_rows(file, path, damage))


def _parquet_rows(
    file: Any, path: Path, damage: type[Exception]
) -> Iterator[tuple[str, Sequence[Any], InputError | None]]:
    row = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for fields in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                row += 1
                yield f"{path}, row {row}", fields, None
    except (damage, OSError, UnicodeDecodeError) as error:
        where = f"{path}, row {row + 1}"
        yield where, (), InputError(f"{where}: the file is damaged: {' '.join(str(error).split())[:200]}")


FORMAT = Format("table", (".csv", ".tsv", ".parquet"), read, chosen_labels)
