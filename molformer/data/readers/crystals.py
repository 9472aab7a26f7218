"""CIF files, and POSCAR and CONTCAR of VASP, read by ASE: periodic structures without labels.

A CIF is expanded by its symmetry; sites that are occupied in part are no single structure and are refused. A POSCAR
names its elements in its sixth line, as those of VASP 5 and later do.
"""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import open_text, suffix_of
from molformer.data.readers.objects import from_ase
from molformer.errors import InputError, one_line

if TYPE_CHECKING:
    from ase import Atoms

MAX_BYTES = 64 * 2**20  # size of a file, at most: ASE reads it as a whole


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Structures of a file, in its order."""
    kind = "CIF" if suffix_of(path) == ".cif" else "POSCAR"
    with open_text(path, min(options.max_bytes, MAX_BYTES)) as file:
        text = file.read()
    try:
        with warnings.catch_warnings(action="ignore"):  # of ASE, of symmetry that is given twice
            structures = _cif(text) if kind == "CIF" else [_poscar(text)]
        for atoms in structures:
            _refuse_disorder(atoms)
    except Exception as error:  # ASE raises whatever its parsers stumble over
        raise InputError(f"'{path}' cannot be read as {kind}: {one_line(error)}") from None
    if not structures:
        raise InputError(f"'{path}' has no atoms with a cell")
    for count, atoms in enumerate(structures, start=1):
        name = str(path) if len(structures) == 1 else f"{path}, structure {count}"
        atoms.info = {"name": name}
        yield from_ase(atoms)


def _refuse_disorder(atoms: "Atoms") -> None:
    for site in atoms.info.pop("occupancy", {}).values():
        if len(site) > 1 or any(abs(float(share) - 1) > 1e-6 for share in site.values()):
            shares = ", ".join(f"{symbol} {share}" for symbol, share in site.items())
            raise ValueError(f"a site is occupied in part ({shares}), write one ordered structure")


def _cif(text: str) -> "list[Atoms]":
    from ase.io.cif import read_cif

    return list(read_cif(io.StringIO(text), index=slice(None)))


def _poscar(text: str) -> "Atoms":
    from ase.io.vasp import read_vasp

    lines = text.splitlines()
    words = lines[5].split() if len(lines) > 6 else []
    if not words or words[0].isdecimal():
        raise ValueError("its sixth line does not name the elements, as VASP 5 and later write it")
    counts = [int(word) for word in lines[6].split("!")[0].split()]
    if len(counts) != len(words) or min(counts) < 0 or sum(counts) > len(lines):
        raise ValueError(f"its seventh line says {sum(counts)} atoms of {len(counts)} elements, which are not there")
    return read_vasp(io.StringIO(text))


FORMAT = Format(read)
