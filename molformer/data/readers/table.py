"""Tables with a SMILES column: CSV and TSV, row by row in constant memory, and Parquet.

The first row names the columns. A label's column has the label's name, or that name with a unit, such as `gap (eV)`;
values are converted from the unit of the heading to that of the label. An empty field is a missing label (NaN), and one
such as `>5` or `<=0.1` a bound, see `targets.bounds_of`; `~5` is 5.
Numbers have a decimal comma where the first rows of their column can mean nothing else.
"""

import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from molformer import units
from molformer.data.readers.entry import Censored, Entry, Format, ReadOptions
from molformer.data.readers.files import open_text, suffix_of
from molformer.errors import InputError, MolformerError, UnitError, extra
from molformer.targets import Label

logger = logging.getLogger(__name__)

SMILES_COLUMNS = ("smiles", "canonicalsmiles", "isomericsmiles", "smi", "smile")
"""Headings of a SMILES column, best first, in lower case without blanks, hyphens and underscores."""

MOLECULE_COLUMNS = ("mol", "molecule", "structure", "compound")  # where none has `smiles` in it

NAME_COLUMNS = (
    *("name", "title", "id", "molid", "moleculeid", "compoundid", "moleculename", "compoundname"),
    *("identifier", "chemblid", "moleculechemblid", "zincid", "cid", "inchikey"),
)
"""Headings of a column with the titles of the rows, likewise."""

MISSING = {"", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "n.a.", "#na", "#n/a", "#n/a n/a", "?"}
MISSING |= {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
"""Spellings, in lower case, of a label that is not there: those of pandas and of public collections."""

MAX_CLASSES = 50  # a column with more different texts is not taken for a category
GUESS_ROWS = 1000  # rows from which `guess_label` guesses

_MAX_LINE = 16 * 2**20  # characters; a file without line ends would otherwise be read into memory as a whole
_MAX_COLUMNS = 100_000
_BATCH_ROWS = 8192
_TRUTH = {"true": 1.0, "false": 0.0}
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*("|$)')
_MINUS = str.maketrans("\u2212\u2013", "--")  # minus sign and en dash
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_LIKE_NUMBER = re.compile(  # with a qualifier, separators of thousands, a percent sign or a unit
    r"[<>=~≤≥≈±]*\s*[+-]?(?=[.,]?\d)(\d{1,3}([.,'’\s]\d{3})+|\d*)([.,]\d*)?([ed][+-]?\d+)?(\s*[%‰]|\s+\D.*|\s*±.*)?",
    re.I | re.S,
)
_QUALIFIED = re.compile(r"(<[<=]?|>[>=]?|=[<>]?|[≤≥~≈∼])\s*([+-]?[.,]?\d.*)", re.S)
_HEADING = re.compile(r"(?P<name>.*\S)\s*(?:\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\])")


_Row = tuple[str, Sequence[Any] | Mapping[int, Any], InputError | None]  # where, fields, error


@dataclass(frozen=True)
class _Table:
    """An open table: its columns, and an iterator of its data rows."""

    columns: list[str]
    rows: Iterator[_Row]


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Entries of a table, in its order."""
    found = False
    with _open(path, options) as table:
        smiles_at = smiles_column(table.columns, options.smiles_column, path)
        columns = _indices(table.columns, [label.name for label in options.targets], path)
        name_at = _name_column(table.columns, {smiles_at, *columns})
        first: list[_Row] = []
        with suppress(MolformerError), _open(path, options) as again:
            first.extend(_first(again, columns))
        targets = [
            (_converter(label, table.columns[index], _texts(first, index), path, options), index)
            for label, index in zip(options.targets, columns, strict=True)
        ]
        for where, fields, error in table.rows:
            found = True
            if error is not None:
                yield Entry(where, where=where, error=error)
                continue
            smiles = _text(fields[smiles_at])
            name = (_text(fields[name_at]) if name_at is not None else "") or smiles or where
            try:
                if not smiles:
                    raise InputError(f"{where}: the SMILES is empty")
                labels = dict(chain(*(convert(fields[index], where).items() for convert, index in targets)))
            except InputError as problem:
                yield Entry(name, where=where, smiles=smiles, error=problem)
            else:
                yield Entry(name, where=where, smiles=smiles, labels=labels)
    if not found:
        raise InputError(f"'{path}' has a header but no rows")


def guess_labels(path: Path, wanted: Sequence[tuple[str, str]], options: ReadOptions | None = None) -> list[Label]:
    """What the values of columns look like: labels of kind `binary`, `intensive` (if most are numbers) or `category`,
    from the first `GUESS_ROWS` rows; the classes are those of all rows.

    A column is named by its heading and `category` where that is the kind, else an empty text. A heading may end in a
    unit that `molformer.units` knows, `gap (eV)` or `gap [eV]`; the label is then called `gap`.

    Raises:
        InputError: there is no such column, or it has no values, too many different texts, or such as look like
            numbers and cannot be read as such.
    """
    with _open(path, options or ReadOptions()) as table:
        columns = _indices(table.columns, [name for name, _ in wanted], path)
        rows = list(_first(table, columns))
        labels = [
            _guessed(path, table.columns[index], kind, rows, index)
            for index, (_, kind) in zip(columns, wanted, strict=True)
        ]
        sets = {i: set(_texts(rows, i)) for i, label in zip(columns, labels, strict=True) if label is None}
        while sets and (more := list(_first(table, sets))):
            for index, values in sets.items():
                values.update(_texts(more, index) if len(values) <= MAX_CLASSES else ())
        return [
            label
            or Label(split_heading(table.columns[i])[0], "", "category", _classes(path, table.columns[i], sets[i]))
            for i, label in zip(columns, labels, strict=True)
        ]


def _guessed(path: Path, heading: str, kind: str, rows: Sequence[_Row], index: int) -> Label | None:
    """The label of a column from its first rows; None if it is a category."""
    name, unit = split_heading(heading)
    texts = _texts(rows, index)
    if not texts:
        none = InputError(f"'{path}': column '{heading}' has no values in its first {GUESS_ROWS} rows")
        raise next((error for _, _, error in rows if error is not None), none)
    if kind:
        return None
    if all(_binary(text) is not None for text in texts):
        return Label(name, "", "binary")
    comma = _decimal_comma(texts)
    plain = any(_number(text, comma) is not None for text in texts)  # else `<1` and `>1` may be classes
    if plain and _most(lambda text: _number(_qualified(text)[1], comma) is not None, texts):
        return Label(name, unit, "intensive")  # what is no number among many is a mistake, and rejected as its row
    if _most(lambda text: _LIKE_NUMBER.fullmatch(text.translate(_MINUS)) is not None, texts):
        strange = next((text for text in texts if _number(_qualified(text)[1], comma) is None), texts[0])
        raise InputError(
            f"'{path}': '{strange[:80]}' of column '{heading}' looks like a number and cannot be read as one: write "
            f"numbers with a decimal point and without separators, signs and units; or say {name}=category if it names "
            "a class"
        )
    return None


def _classes(path: Path, heading: str, values: set[str]) -> tuple[str, ...]:
    """Names of classes in order, numbers as such; those that differ little are warned of."""
    if not 1 < len(values) <= MAX_CLASSES:
        strange = min(values, key=lambda text: (_number(text) is not None, text))
        raise InputError(
            f"'{path}': column '{heading}' is no label: '{strange[:80]}' is not a number, and {len(values)} different "
            f"texts are not 2 to {MAX_CLASSES} classes"
        )
    spellings: dict[str, list[str]] = {}
    for value in sorted(values):
        spellings.setdefault("".join(value.split()).casefold(), []).append(value)
    for several in (found for found in spellings.values() if len(found) > 1):
        names = ", ".join(f"'{value}'" for value in several)
        logger.warning("'%s': classes of column '%s' differ by case or blanks alone: %s", path, heading, names)
    numbers = {value: _number(value) for value in values}
    return tuple(sorted(values, key=lambda text: (math.inf if numbers[text] is None else numbers[text], text)))


def _first(table: _Table, columns: Collection[int]) -> Iterator[_Row]:
    """The next `GUESS_ROWS` rows of a table, with some of its columns; none if there are no columns."""
    for where, fields, error in islice(table.rows, GUESS_ROWS if columns else 0):
        yield where, {} if error else {index: fields[index] for index in columns}, error


def _texts(rows: Iterable[_Row], index: int) -> list[str]:
    """Texts of a column that are not missing."""
    texts = (_text(fields[index]) for _, fields, error in rows if error is None)
    return [text for text in texts if text.lower() not in MISSING]


def _most(test: Callable[[str], bool], texts: Sequence[str]) -> bool:
    """Whether a test holds for more than half of the texts, or of the different ones."""
    counts = Counter(texts)
    passed = [text for text in counts if test(text)]
    return 2 * len(passed) > len(counts) or 2 * sum(counts[text] for text in passed) > len(texts)


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


def label_values(
    label: Label, raw: Any, where: str, decimal_comma: bool = False, factor: float = 1.0, censored: Censored = "bounds"
) -> dict[str, np.ndarray]:
    """The `label_value` times a factor, by its name; of a censored one NaN, and the bound, see `targets.bounds_of`.

    Raises:
        InputError: it is no value, or a bound and `censored` is `refuse`.

    Example:
        >>> values = label_values(Label("pIC50", "", "intensive"), "<= 4", "row 1")
        >>> {name: float(value) for name, value in values.items()}
        {'pIC50': nan, 'pIC50<': 4.0}
    """
    side, amount = ("", raw) if label.is_class else _qualified(_text(raw))
    if side and censored == "refuse":
        raise InputError(f"{where}: label '{label.name}' is '{_text(raw)[:80]}', a bound, and censored is 'refuse'")
    value = label_value(label, amount, where, decimal_comma)
    values = {label.name: math.nan, label.name + side: value} if side else {label.name: value}
    return {name: np.array(value if factor == 1.0 else factor * value) for name, value in values.items()}


def label_value(label: Label, raw: Any, where: str, decimal_comma: bool = False) -> float:
    """The value of a label with one number a structure, from a text or a number of Parquet: the number, 0 or 1, or the
    index of the class; NaN where it is missing.

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
        value, wanted = _number(text, decimal_comma), f"a finite number{' with a decimal comma' * decimal_comma}"
    if value is not None:
        return value
    if text.lower() in MISSING:
        return math.nan
    raise InputError(f"{where}: label '{label.name}' is '{text[:80]}', which is not {wanted}")


def smiles_column(columns: Sequence[str], wanted: str = "", path: Path | str = "") -> int:
    """Index of the column with the SMILES.

    Raises:
        InputError: there is none, or it is ambiguous.

    Example:
        >>> smiles_column(["id", "Canonical_SMILES"])
        1
    """
    if wanted:
        return _indices(columns, [wanted], path)[0]
    plain = [re.sub(r"[\s_-]", "", column.lower()) for column in columns]
    possible = [index for index, name in enumerate(plain) if "smiles" in name]
    for name in (*SMILES_COLUMNS, *MOLECULE_COLUMNS * (not possible)):
        if name in plain:
            return plain.index(name)
    if len(possible) == 1:
        return possible[0]
    known = ", ".join(f"'{columns[index]}'" for index in (possible or range(len(columns)))[:12])
    problem = "several columns may be the SMILES" if possible else "no column is called 'smiles'"
    raise InputError(f"'{path}': {problem}: name the column of SMILES, one of {known}")


def _indices(columns: Sequence[str], wanted: Sequence[str], path: Path | str) -> list[int]:
    """Indices of columns by their case-insensitive headings, with or without units."""
    readings: tuple[Callable[[str], str], ...] = (
        str.strip,
        str.lower,
        lambda text: split_heading(text)[0],
        lambda text: split_heading(text)[0].lower(),
    )
    tables: list[dict[str, list[int]]] = []
    found = {}
    for name in wanted:
        for place, reading in enumerate(readings):
            if place == len(tables):
                tables.append({})
                for index, column in enumerate(columns):
                    tables[place].setdefault(reading(column), []).append(index)
            if fitting := tables[place].get(reading(name)):
                break
        else:
            near = get_close_matches(reading(name), list(tables[-1])[:2000])
            meant = "".join(f"; did you mean '{columns[index]}'?" for key in near for index in tables[-1][key])
            known = ", ".join(f"'{column[:80]}'" for column in columns[:12]) + ", …" * (len(columns) > 12)
            raise InputError(f"'{path}' has no column '{name}'{meant or '; its columns: ' + known}")
        if len(fitting) > 1:
            names = ", ".join(f"'{columns[index]}'" for index in fitting)
            raise InputError(f"'{path}': '{name}' may be any of the columns {names}: write it as there")
        found[name] = fitting[0]
    return [found[name] for name in wanted]


def _converter(
    label: Label, heading: str, texts: Sequence[str], path: Path, options: ReadOptions
) -> Callable[[Any, str], dict[str, np.ndarray]]:
    """The function from a field of a label's column, and its place, to the values of `label_values`."""
    if label.per_node or label.shape:
        raise InputError(
            f"'{path}': label '{label.name}' of kind '{label.kind}' belongs to a geometry, and a table of SMILES has "
            "none: use a file with coordinates"
        )
    unit = split_heading(heading)[1]
    numeric = not label.is_class
    try:
        factor = units.factor(unit, label.unit) if numeric and unit and label.unit else 1.0
    except UnitError as error:
        raise InputError(f"'{path}', column '{heading}' of label '{label.name}': {error}") from None
    comma = _decimal_comma(texts)
    return partial(label_values, label, decimal_comma=comma, factor=factor, censored=options.censored)


def _name_column(columns: Sequence[str], used: set[int]) -> int | None:
    plain = [re.sub(r"[\s_-]", "", column.lower()) for column in columns]
    found = (plain.index(name) for name in NAME_COLUMNS if name in plain)
    return next((index for index in found if index not in used), None)


def _text(raw: Any) -> str:
    return "" if raw is None else (raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)).strip()


def _qualified(text: str) -> tuple[str, str]:
    """`>` or `<` where a text is such a bound, and what follows it or a sign such as `~`; the text itself without."""
    match = _QUALIFIED.fullmatch(text.translate(_MINUS))
    if match is None:
        return "", text
    return ">" * ("≥" in match[1] or ">" in match[1]) or "<" * ("≤" in match[1] or "<" in match[1]), match[2]


def _number(text: str, decimal_comma: bool = False) -> float | None:
    """A finite number in ASCII digits, or None: not '1_000', 'inf', 'nan' or '½'; a minus may be the sign U+2212."""
    text = text.translate(_MINUS)
    if decimal_comma:
        text = "" if "." in text else text.replace(",", ".")
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _decimal_comma(texts: Sequence[str]) -> bool:
    """Whether the numbers of a column have decimal commas: most of them, and one of these can mean nothing else."""
    texts = [_qualified(text)[1] for text in texts]
    with_comma = [text for text in texts if "," in text and _number(text, decimal_comma=True) is not None]
    with_point = sum("." in text and _number(text) is not None for text in texts) if with_comma else 1
    unlike = any(not _THOUSANDS.fullmatch(text.translate(_MINUS)) for text in with_comma)
    return unlike and len(with_comma) >= with_point


def _binary(text: str) -> float | None:
    value = _TRUTH.get(text.lower(), _number(text))
    return value if value in (0.0, 1.0) else None


@contextmanager
def _open(path: Path, options: ReadOptions) -> Iterator[_Table]:
    """Open a table of any kind."""
    if ".parquet" in path.suffixes:
        yield _checked(_open_parquet(path, options.max_bytes), path)
    else:
        with open_text(path, options.max_bytes) as file:
            yield _checked(_open_csv(file, path, options.delimiter), path)


def _checked(table: _Table, path: Path) -> _Table:
    if len(table.columns) > _MAX_COLUMNS:
        raise InputError(f"'{path}' has more than {_MAX_COLUMNS} columns: leave out those that are not needed")
    twice = sorted(name for name, count in Counter(table.columns).items() if name and count > 1)
    if twice:
        raise InputError(f"'{path}' has more than one column called '{twice[0]}': rename them")
    if not any(table.columns):
        raise InputError(f"'{path}' has no column names in its first row")
    return table


def _open_csv(file: TextIO, path: Path, delimiter: str) -> _Table:
    lines = _lines(file, path)
    first = next((line for line in lines if line.strip()), "")
    guessed = "\t" if suffix_of(path) == ".tsv" else max(_DELIMITERS, key=_QUOTED.sub("", first).count)
    delimiter = delimiter or guessed
    try:
        rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        columns = [name.strip() for name in next(rows, [])]
    except (csv.Error, TypeError) as error:  # the latter for a delimiter that is none
        raise InputError(f"'{path}': the header is damaged: {error}") from None
    return _Table(columns, _csv_rows(rows, len(columns), str(path)))


def _csv_rows(rows: Any, width: int, path: str) -> Iterator[_Row]:
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
    with extra("parquet", f"'{path}': Parquet files need pyarrow", InputError):
        from pyarrow import ArrowException, parquet

    if path.suffix.lower() != ".parquet":
        raise InputError(f"'{path}': Parquet files are compressed inside: unpack it first")
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        size = sum(file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups))
        names = [name.strip() for name in file.schema_arrow.names]
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.errno else f"not a Parquet file: {error}"
        raise InputError(f"cannot read '{path}': {' '.join(str(reason).split())[:200]}") from None
    if size > max_bytes:
        raise InputError(f"'{path}' is larger than allowed: raise max_bytes if it is meant to be so large")
    return _Table(names, _parquet_rows(file, path, ArrowException))


def _parquet_rows(file: Any, path: Path, damage: type[Exception]) -> Iterator[_Row]:
    row = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            for fields in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                row += 1
                yield f"{path}, row {row}", fields, None
    except (damage, OSError, UnicodeDecodeError) as error:
        where = f"{path}, row {row + 1}"
        yield where, (), InputError(f"{where}: the file is damaged: {' '.join(str(error).split())[:200]}")


FORMAT = Format(read, names=None)
