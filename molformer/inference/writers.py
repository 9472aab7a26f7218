"""Streaming writers of predictions: CSV, Parquet and SDF, with resumption of interrupted runs.

Every row is flushed, so that an interrupted run leaves complete rows and at most one incomplete row, which `resume`
truncates. The rows of an unfinished Parquet file are in a CSV file beside it.
"""

import csv
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from molformer.data.drafts import plain_field, writing
from molformer.data.readers import Entry
from molformer.errors import InputError, extra
from molformer.inference.prediction import Prediction
from molformer.inference.table import FACTS, Layout, text_of

SUFFIXES = (".csv", ".parquet", ".sdf")  # suffixes of supported files

_GROUP = 10_000  # rows of a Parquet file that are in memory at a time


class Writer(AbstractContextManager["Writer"]):
    """Context manager of an output file with the columns of a layout, which is completed on successful exit; with
    `resume` it goes on after the last complete row of an existing file, which is otherwise replaced.

    Raises:
        InputError: it cannot be written, or an existing file has other columns.
    """

    def __init__(self, path: Path, layout: Layout, resume: bool) -> None:
        self.path, self.layout = path, layout
        self.going_on = resume and path.is_file() and path.stat().st_size > 0
        with writing(path), ExitStack() as begun:
            if self.going_on:
                os.truncate(path, self.whole(path))
                self._check_columns()
            mode = "a" if self.going_on else "w"
            self._file: IO[Any] = begun.enter_context(open(path, mode, newline="", encoding="utf-8"))
            self.begin()
            self._file.flush()
            begun.pop_all()  # `__exit__` closes it

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with writing(self.path) if kind is None else suppress(OSError):
            self._file.close()
        if kind is None:
            self.finish()

    def rest(self, entries: Iterable[Entry], earlier: Callable[[str, str], None] | None = None) -> Iterator[Entry]:
        """Entries without a row in the file; `earlier` is called with status and message of each row that is there.

        Raises:
            InputError: the existing rows are not those of these entries.
        """
        remaining = iter(entries)
        for number, (name, _, status, message) in enumerate(self.facts() if self.going_on else (), start=1):
            entry = next(remaining, None)
            if earlier is not None:
                earlier(status, message)
            if entry is None or self.as_written(entry.name) != name:
                found = "there is none" if entry is None else f"it is '{entry.name}'"
                raise InputError(
                    f"'{self.path}' is of other inputs: its row {number} is '{name}' and now {found}; resume with the "
                    "same inputs, or omit --resume to start again"
                )
        yield from remaining

    def write(self, row: Prediction) -> None:
        """Write a row.

        Raises:
            InputError: the disk is full, or the like.
        """
        with writing(self.path):
            self.put(row)
            self._file.flush()

    def _check_columns(self) -> None:
        """Check that an existing file has the same columns."""
        if self.columns() not in ([], self.layout.headings):
            raise InputError(
                f"'{self.path}' has other columns: resume with the same model, targets, units and conformers, or leave "
                "--resume out to begin anew"
            )

    def as_written(self, name: str) -> str:
        """Name of an input as written in the file."""
        return name

    def begin(self) -> None:
        """Write the header, if any."""

    @abstractmethod
    def put(self, row: Prediction) -> None:
        """Write a row, which may remain buffered."""

    @abstractmethod
    def whole(self, path: Path) -> int:
        """Length of a file up to the end of its last complete row, bytes."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Column names of the file; empty if it has no complete row."""

    @abstractmethod
    def facts(self) -> Iterator[list[str]]:
        """The columns `FACTS` of existing rows."""

    def finish(self) -> None:
        """Complete the file after the last row."""


class CsvWriter(Writer):
    """A CSV file with a row for each prediction."""

    def begin(self) -> None:
        """Write the headings."""
        self._rows = csv.writer(self._file, lineterminator="\n")
        if not (self.going_on and self.columns()):
            self._rows.writerow(self.layout.headings)

    def put(self, row: Prediction) -> None:
        """Write a row."""
        self._rows.writerow(_fields(self.layout, row))

    def as_written(self, name: str) -> str:
        """The name as a field."""
        return plain_field(name)

    def whole(self, path: Path) -> int:
        """Bytes up to the last end of a line that is not within quotation marks."""
        quotes = position = end = 0
        with open(path, "rb") as file:
            for line in file:
                quotes += line.count(b'"')
                position += len(line)
                if line.endswith(b"\n") and quotes % 2 == 0:
                    end = position
        return end

    def columns(self) -> list[str]:
        """The first row."""
        with open(self.path, newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def facts(self) -> Iterator[list[str]]:
        """The first columns."""
        with open(self.path, newline="", encoding="utf-8") as file:
            for fields in islice(csv.reader(file), 1, None):
                yield (fields + [""] * len(FACTS))[: len(FACTS)]


class ParquetWriter(CsvWriter):
    """A Parquet file; per-atom values are lists. Until it is complete, its rows are in `NAME.part.csv`."""

    def __init__(self, path: Path, layout: Layout, resume: bool) -> None:
        with extra("parquet", "Parquet files need pyarrow"):
            import pyarrow.parquet  # noqa: F401 - `finish` needs it
        self.target = path
        part = path.with_name(f"{path.name}.part.csv")
        if resume and path.is_file() and not part.is_file():
            raise InputError(f"'{path}' is finished; omit --resume to start again")
        super().__init__(part, layout, resume)

    def finish(self) -> None:
        """Convert the rows to the Parquet file."""
        import pyarrow as arrow
        from pyarrow import parquet

        number = arrow.float64()
        types = {"text": arrow.string(), "number": number, "list": arrow.list_(number)}
        schema = arrow.schema(list(zip(self.layout.headings, map(types.get, self.layout.types), strict=True)))
        draft = self.target.with_name(f".{self.target.name}.part")
        try:
            with open(self.path, newline="", encoding="utf-8") as file, parquet.ParquetWriter(draft, schema) as out:
                rows = islice(csv.reader(file), 1, None)
                while group := list(islice(rows, _GROUP)):
                    columns = [
                        [_cell(text, kind) for text in column]
                        for column, kind in zip(zip(*group, strict=True), self.layout.types, strict=True)
                    ]
                    out.write_table(arrow.table(columns, schema=schema))
            os.replace(draft, self.target)
            self.path.unlink()
        except OSError as error:
            raise InputError(f"cannot write '{self.target}': {error.strerror}; its rows are in '{self.path}'") from None


class SdfWriter(Writer):
    """An SDF file with a record for each prediction: the geometry, and the values as properties.

    A row without a geometry has a record without atoms.
    """

    def put(self, row: Prediction) -> None:
        """Write a record."""
        from molformer.inference.molblock import molblock

        cells = zip(self.layout.headings, self.layout.cells(row), strict=True)
        properties = "".join(f">  <{name}>\n{_line(text_of(cell))}\n\n" for name, cell in cells)
        self._file.write(f"{molblock(row.structure, _line(row.name))}{properties}$$$$\n")

    def as_written(self, name: str) -> str:
        """The name in one line."""
        return _line(name)

    def whole(self, path: Path) -> int:
        """Bytes up to the last end of a record."""
        position = end = 0
        with open(path, "rb") as file:
            for line in file:
                position += len(line)
                end = position if line == b"$$$$\n" else end
        return end

    def columns(self) -> list[str]:
        """The properties of the first record."""
        return [name for name, _ in next(self._records(), [])]

    def facts(self) -> Iterator[list[str]]:
        """The first properties of each record."""
        for record in self._records():
            found = dict(record)
            yield [found.get(name, "") for name in FACTS]

    def _records(self) -> Iterator[list[tuple[str, str]]]:
        """Names and values of the properties of each record."""
        found: list[tuple[str, str]] = []
        with open(self.path, encoding="utf-8", newline="\n") as file:
            for line in file:
                if line == "$$$$\n":
                    yield found
                    found = []
                elif line.startswith(">  <"):
                    found.append((line[4:-2], next(file)[:-1]))


class ScreenWriter:
    """CSV rows on standard output, unbuffered."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._rows.writerow(layout.headings)

    def write(self, row: Prediction) -> None:
        """Write a row."""
        self._rows.writerow(_fields(self.layout, row))
        sys.stdout.flush()


def open_writer(path: Path, layout: Layout, resume: bool = False) -> Writer:
    """Writer for a file, chosen by its suffix.

    Raises:
        InputError: the format is not supported, or the file cannot be written.
    """
    kinds: dict[str, type[Writer]] = {".csv": CsvWriter, ".parquet": ParquetWriter, ".sdf": SdfWriter}
    if path.suffix.lower() not in kinds:
        raise InputError(f"cannot write '{path}': its name must end in {', '.join(SUFFIXES)}")
    return kinds[path.suffix.lower()](path, layout, resume)


def _fields(layout: Layout, row: Prediction) -> list[str]:
    """Fields of a CSV row."""
    return [plain_field(cell) if isinstance(cell, str) else text_of(cell) for cell in layout.cells(row)]


def _cell(text: str, kind: str) -> Any:
    if kind == "text":
        return text.removeprefix("'") if plain_field(text.removeprefix("'")) == text else text
    if not text:
        return None
    return float(text) if kind == "number" else [float(word) for word in text.split()]


def _line(text: str) -> str:
    return " ".join(text.split()).replace("$$$$", "$ $ $ $")
