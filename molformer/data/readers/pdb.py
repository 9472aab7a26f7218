"""PDB files, read by RDKit model by model.

The format has no bond orders, so whether hydrogens are missing is judged by the neighbors of carbons (see
`bare_atom`), and the charge is the sum of those in columns 79–80 and of what RDKit knows of amino acids.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from rdkit import Chem, rdBase

from molformer.data.bonds import with_orders
from molformer.data.conformers import structure_of
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.molfile import has_coordinates, lacks_hydrogens, read_records
from molformer.errors import InputError
from molformer.molecular_graph import MolecularGraph

_ATOM = ("ATOM  ", "HETATM")
_RESIDUES = frozenset(
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL HOH".split()  # noqa: SIM905
)
_PLANAR = 342.0  # degrees; the angles at a carbon with three neighbors sum to 328 for sp³ and to 360 for sp²
_LINEAR = 150.0  # degrees; the angle at a carbon with two neighbors is 110 to 120 for sp³ and sp², 180 for sp
_TRIPLE = 1.25  # Å; carbon monoxide 1.13, isocyanides 1.17


def split(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Models, which end at ENDMDL or END; lines before the first belong to it, records without atoms are skipped."""
    record: list[bytes] = []
    atoms = False
    for line in lines:
        atoms = atoms or line.startswith((b"ATOM", b"HETATM"))
        if line[:6].strip() in (b"ENDMDL", b"END"):
            if atoms:
                yield record
            record, atoms = [], False
        else:
            record.append(line)
    if atoms:
        yield record


def parse(lines: list[str], where: str, options: ReadOptions) -> Entry:
    """The entry of one model.

    Raises:
        InputError: it cannot be read, an atom is no element, or hydrogens are missing; PDB records have no labels.
    """
    rows = [line for line in lines if line.startswith(_ATOM)]
    _check_rows(rows, where)
    with rdBase.BlockLogs():
        try:
            mol = Chem.MolFromPDBBlock("\n".join([*rows, "END", ""]), sanitize=False, removeHs=False)
        except (RuntimeError, ValueError):
            mol = None
    if mol is None or not has_coordinates(mol):
        raise InputError(f"{where} is no PDB record: its ATOM lines cannot be read")
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0:
            raise InputError(f"{where}: atom {atom.GetIdx() + 1} has no known element in columns 77-78")
    bare = bare_atom(mol)
    if bare is not None and options.add_hydrogens:
        mol, bare = _with_hydrogens(mol, where), None
    structure = replace(structure_of(mol, name=where, bonds=False), molecular_graph=_graph(mol, rows, lines))
    if bare is not None:
        raise lacks_hydrogens(where, f"hydrogens, by the neighbors of atom {bare + 1}")
    title = " ".join(line[10:].strip() for line in lines if line.startswith(("TITLE ", "COMPND")))
    return Entry(title.strip() or where, where=where, structure=structure)


def _graph(mol: Chem.Mol, rows: list[str], lines: list[str]) -> MolecularGraph | None:
    """The molecular graph of a record that lists the bonds of all its atoms (CONECT); their orders are perceived."""
    connect = [line for line in lines if line.startswith("CONECT")]
    if not connect or mol.GetNumAtoms() != len(rows):
        return None
    block = "\n".join([*rows, *connect, "END", ""])
    with rdBase.BlockLogs():
        bonded = Chem.MolFromPDBBlock(block, sanitize=False, removeHs=False, proximityBonding=False)
    if bonded is None or any(not atom.GetDegree() for atom in bonded.GetAtoms()):
        return None
    for bond in bonded.GetBonds():
        bond.SetBondType(Chem.BondType.SINGLE)
    return with_orders(bonded, Chem.GetFormalCharge(mol), 1, connect=False)[0]


def _with_hydrogens(mol: Chem.Mol, where: str) -> Chem.Mol:
    """The molecule with hydrogens; only for residues with bond orders known to RDKit."""
    names = {atom.GetPDBResidueInfo().GetResidueName().strip() for atom in mol.GetAtoms()}
    if unknown := names - _RESIDUES:
        raise InputError(f"{where}: hydrogens cannot be added to '{min(unknown)}': PDB has no bond orders; use SDF")
    Chem.SanitizeMol(mol)
    return Chem.AddHs(mol, addCoords=True)


def bare_atom(mol: Chem.Mol) -> int | None:
    """Index of the first atom that lacks a hydrogen by its coordinates and bonds alone, or None.

    A carbon has four neighbors, or three in a plane with it, or two in a line, or one that is no carbon at the
    distance of a triple bond; nitrogen, oxygen, sulphur and phosphorus have at least one. Charged atoms are not judged.
    """
    pos = mol.GetConformer().GetPositions()
    for atom in mol.GetAtoms():
        neighbors = [other.GetIdx() for other in atom.GetNeighbors()]
        if atom.GetFormalCharge() or (neighbors and atom.GetAtomicNum() != 6):
            continue
        index = atom.GetIdx()
        if not neighbors:
            bare = atom.GetAtomicNum() in (6, 7, 8, 15, 16)
        elif len(neighbors) == 1:
            length = float(np.linalg.norm(pos[neighbors[0]] - pos[index]))
            bare = length > _TRIPLE or atom.GetNeighbors()[0].GetAtomicNum() == 6
        elif len(neighbors) < 4:
            bare = _angles(pos[neighbors] - pos[index]) < (_LINEAR if len(neighbors) == 2 else _PLANAR)
        else:
            bare = False
        if bare:
            return index
    return None


def _angles(bonds: np.ndarray) -> float:
    """Sum of the angles between bonds (k, 3), degrees."""
    unit = bonds / np.linalg.norm(bonds, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).sum())


def _check_rows(rows: list[str], where: str) -> None:
    """Check that every coordinate is a finite number in its columns; RDKit takes part of what is written there."""
    for number, row in enumerate(rows, start=1):
        try:
            coordinates = [float(row[start : start + 8]) for start in (30, 38, 46)]
        except ValueError:
            coordinates = [np.nan]
        if not np.isfinite(coordinates).all():
            raise InputError(f"{where}: atom {number} has no coordinates in columns 31-54: '{row[:60].rstrip()}'")


FORMAT = Format(partial(read_records, split=split, parse=parse))
