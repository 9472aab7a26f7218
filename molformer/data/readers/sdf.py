"""MOL and SDF files, V2000 and V3000, read by RDKit record by record; properties of records as labels."""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from rdkit import Chem

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import open_bytes
from molformer.data.readers.molfile import MAX_RECORD, entry_of, parsed, read_records
from molformer.data.readers.table import label_value, label_values
from molformer.errors import InputError

_COUNTS = 3  # index of the line with the numbers of atoms and bonds
_PROPERTY = re.compile(r">[^<]*<(.*)>[^>]*")
_AFTER_BONDS = ("M  ", "A  ", "V  ", "G  ", "S  ")


def split(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records, which end at a line `$$$$`; what comes after the last is a record unless it is blank."""
    record: list[bytes] = []
    for line in lines:
        if line.startswith(b"$$$$"):
            yield record
            record = []
        else:
            record.append(line)
    if any(line.strip() for line in record):
        yield record


def parse(lines: list[str], where: str, options: ReadOptions) -> Entry:
    """The entry of one record.

    Raises:
        InputError: it cannot be read, see also `entry_of`.
    """
    end = next((index for index, line in enumerate(lines) if line.startswith("M  END")), None)
    if end is None:
        raise InputError(f"{where} is no complete MOL block: it ends before 'M  END'")
    _check_counts(lines[:end], where)
    mol = parsed(Chem.MolFromMolBlock, lines[: end + 1])
    if mol is None:
        raise InputError(f"{where} is no MOL block: a line of its atoms, bonds or properties cannot be read")
    solid = mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()
    said = lines[1][20:22].upper() in ("2D", "3D")  # what it is
    labels = partial(_labels, properties(lines[end + 1 :]), options, where)
    return entry_of(mol, where, lines[0].strip(), solid or (False if said else None), labels, options.add_hydrogens)


def properties(lines: list[str]) -> list[tuple[str, str]]:
    r"""Names and values of the properties of a record, in their order.

    Example:
        >>> properties([">  <gap>  (1)", "7.5", "", "> <note>", "two", "lines", ""])
        [('gap', '7.5'), ('note', 'two\nlines')]
    """
    found: list[tuple[str, list[str]]] = []
    open_ = False
    for line in lines:
        match = _PROPERTY.fullmatch(line) if line.startswith(">") else None
        if match:
            found.append((match[1], []))
        elif line.strip() and open_:
            found[-1][1].append(line)
        open_ = bool(match) or (open_ and bool(line.strip()))
    return [(name, "\n".join(value).strip()) for name, value in found]


def names(path: Path, options: ReadOptions) -> Iterator[str]:
    """Names of the properties of the records, one after another."""
    try:
        with open_bytes(path, options.max_bytes, MAX_RECORD) as file:
            for line in file:
                if line.startswith(b">") and (match := _PROPERTY.fullmatch(line.decode(errors="replace").rstrip())):
                    yield match[1]
    except InputError:
        return  # `read` says what is wrong with the file


def _labels(found: list[tuple[str, str]], options: ReadOptions, where: str, num_atoms: int) -> dict[str, np.ndarray]:
    """Values of the labels from the properties of a record; NaN where a property is missing or empty."""
    values: dict[str, np.ndarray] = {}
    for label in options.targets:
        texts = {text for name, text in found if name == label.name}
        if len(texts) > 1:
            raise InputError(f"{where}: property '{label.name}' has two different values")
        text = texts.pop() if texts else ""
        shape = (num_atoms, *label.shape) if label.per_node else label.shape
        if not shape:
            values |= label_values(label, text, where, censored=options.censored)
            continue
        numbers = [label_value(label, word, where) for word in re.split(r"[\s,;]+", text) if word]
        if numbers and len(numbers) != np.prod(shape):
            raise InputError(
                f"{where}: property '{label.name}' has {len(numbers)} numbers, a label of kind '{label.kind}' of "
                f"{num_atoms} atoms needs {np.prod(shape)}"
            )
        values[label.name] = np.array(numbers).reshape(shape) if numbers else np.full(shape, np.nan)
    return values


def _check_counts(lines: list[str], where: str) -> None:
    """Compare the counts of a V2000 block with its lines; RDKit may read fewer atoms than there are."""
    counts = lines[_COUNTS] if len(lines) > _COUNTS else ""
    if "V3000" in counts:
        return
    try:
        atoms, bonds, lists = (int(counts[start : start + 3].strip() or 0) for start in (0, 3, 6))
        if not counts.strip() or min(atoms, bonds, lists) < 0:
            raise ValueError
    except ValueError:
        raise InputError(f"{where} is no MOL block: line 4 must have the numbers of atoms and bonds") from None
    rest = lines[_COUNTS + 1 + atoms + bonds + lists :]
    if len(lines) < _COUNTS + 1 + atoms + bonds + lists or (rest and not rest[0].startswith(_AFTER_BONDS)):
        raise InputError(
            f"{where} is no MOL block: line 4 says {atoms} atoms and {bonds} bonds, which does not fit the "
            f"{len(lines) - _COUNTS - 1} lines between it and 'M  END'"
        )


FORMAT = Format(partial(read_records, split=split, parse=parse), names=names)
