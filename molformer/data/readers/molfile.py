"""What the readers of MOL, PDB and MOL2 files and of RDKit molecules share: records, and molecules as entries.

A molecule with 3-D coordinates is used as it is and must have all its hydrogens; one that is drawn (2-D) or has no
coordinates becomes its SMILES, stereochemistry included, and gets a geometry later.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rdkit import Chem, rdBase

from molformer.data.conformers import structure_of
from molformer.data.readers.entry import Entry, ReadOptions
from molformer.data.readers.files import open_bytes
from molformer.errors import DAMAGE, InputError, one_line

MAX_RECORD = 64 * 2**20  # bytes of a record, so that a file without separators is not read into memory as a whole

Split = Callable[[Iterable[bytes]], Iterator[list[bytes]]]
Parse = Callable[[list[str], str, ReadOptions], Entry]


def read_records(path: Path, options: ReadOptions, split: Split, parse: Parse) -> Iterator[Entry]:
    """Entries of a file of records, one after another."""
    count = 0
    with open_bytes(path, options.max_bytes) as file:
        lines = _Lines(file, path)
        for count, record in enumerate(split(lines), start=1):
            lines.bytes = 0
            where = f"{path}, record {count}"
            try:
                entry = parse(_decoded(record, first=count == 1), where, options)
            except InputError as error:
                entry = Entry(where, where=where, error=error)
            except DAMAGE as error:  # RDKit raises more than it says
                entry = Entry(where, where=where, error=InputError(f"{where} cannot be read: {one_line(error)}"))
            yield entry
    if count == 0:
        raise InputError(f"'{path}' has no records")


def entry_of(
    mol: Chem.Mol,
    where: str,
    name: str = "",
    solid: bool | None = False,
    labels: Callable[[int], Mapping[str, np.ndarray]] = lambda atoms: {},
    add_hydrogens: bool = False,
) -> Entry:
    """The entry of an RDKit molecule, by its first conformer, if any; `labels` gives its labels from the number of
    atoms.

    Without coordinates that differ a conformer is not `solid`, 3-D; where that is None, nothing says whether a flat one
    is a drawing, and it is judged by `is_planar_geometry`. Hydrogens are added at the usual lengths and angles.

    Raises:
        InputError: it has no atoms, an atom is no element, it is not a possible molecule, it has 3-D coordinates and
            lacks hydrogens, or a label cannot be read.
    """
    prefix = f"{where}: " if where else ""
    if mol.GetNumAtoms() == 0:
        raise InputError(f"{prefix}the molecule has no atoms")
    mol = Chem.Mol(mol)
    atoms = list(mol.GetAtoms())  # RDKit makes each anew, slowly
    for atom in atoms:
        if atom.GetAtomicNum() == 0 or atom.HasQuery():
            raise InputError(f"{prefix}atom {atom.GetIdx() + 1} is a placeholder and no element: replace it")
    with rdBase.BlockLogs():
        problems = Chem.DetectChemistryProblems(mol)
        if problems:
            raise InputError(f"{prefix}not a possible molecule: {problems[0].Message()}")
        Chem.SanitizeMol(mol)
    smiles = smiles_of(mol)
    solid = has_coordinates(mol) and (is_planar_geometry(mol) if solid is None else solid)
    missing = sum(atom.GetTotalNumHs() for atom in atoms)
    if solid and missing and add_hydrogens:
        mol, missing = Chem.AddHs(mol, addCoords=True), 0
    values = labels(mol.GetNumAtoms())
    if not solid:
        return Entry(name or smiles, where=where, smiles=smiles, labels=values)
    if missing:
        raise lacks_hydrogens(where, f"{missing} of its hydrogens")
    structure = replace(structure_of(mol, smiles, where or name), labels=values)
    return Entry(name or where or smiles, where=where, structure=structure)


def parsed(parse: Callable[..., Chem.Mol | None], lines: list[str]) -> Chem.Mol | None:
    """The molecule of a block, perhaps an impossible one, for which `entry_of` finds the reason; None if it is none."""
    block = "\n".join(lines) + "\n"
    with rdBase.BlockLogs():
        try:
            mol = parse(block, removeHs=False)
            return parse(block, removeHs=False, sanitize=False) if mol is None else mol
        except (RuntimeError, ValueError):
            return None


def lacks_hydrogens(where: str, missing: str) -> InputError:
    """The error of a 3-D record without all its hydrogens."""
    return InputError(
        f"{where + ': ' if where else ''}it has 3-D coordinates but lacks {missing}: write it with all hydrogens, have "
        "them added (--add-hydrogens), or give its SMILES to have a geometry made"
    )


def has_coordinates(mol: Chem.Mol) -> bool:
    """Whether a molecule has a conformer in which not all atoms are at one place."""
    if mol.GetNumConformers() == 0:
        return False
    pos = mol.GetConformer().GetPositions()
    return len(pos) == 1 or bool((pos != pos[0]).any())


def is_planar_geometry(mol: Chem.Mol) -> bool:
    """Whether a flat conformer is that of a planar molecule with all its hydrogens, and no drawing.

    No atom has four neighbors, and bonds are as long as the covalent radii say, within 30 %: drawings have bonds of
    one length.
    """
    table, pos = Chem.GetPeriodicTable(), mol.GetConformer().GetPositions()
    if mol.GetNumAtoms() < 2 or any(atom.GetDegree() > 3 or atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        return False
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        usual = sum(table.GetRcovalent(atom.GetAtomicNum()) for atom in ends)
        length = np.linalg.norm(pos[ends[0].GetIdx()] - pos[ends[1].GetIdx()])
        if not 0.7 * usual < length < 1.3 * usual:
            return False
    return True


def smiles_of(mol: Chem.Mol) -> str:
    """Isomeric SMILES of a molecule, without the hydrogens that need not be there."""
    with rdBase.BlockLogs():
        return Chem.MolToSmiles(Chem.RemoveHs(mol))


class _Lines:
    """Lines of a file; refuses to go on where the bytes since the last record are too many."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(MAX_RECORD):
            self.bytes += len(line)
            if self.bytes >= MAX_RECORD:
                raise InputError(f"'{self._path}' has a record of more than {MAX_RECORD} bytes: it is no molecule")
            yield line


def _decoded(record: list[bytes], first: bool) -> list[str]:
    """Lines of text; what is not UTF-8, which only titles and remarks may be, is replaced."""
    text = b"".join(record).decode("utf-8-sig" if first else "utf-8", errors="replace")
    return re.split(r"\r\n|\r|\n", text)
