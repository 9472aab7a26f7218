"""Molecular graphs from RDKit: of a molecule with bonds, or perceived from positions alone."""

from dataclasses import replace

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from molformer.elements import SYMBOLS
from molformer.errors import DAMAGE, InputError, one_line
from molformer.molecular_graph import MolecularGraph
from molformer.structure import Structure

_ORDERS = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3, Chem.BondType.AROMATIC: 4}
_CHIRALITY = {"R": 1, "S": 2}
_MOST_ITERATIONS = 100_000  # assignments of bond orders that are tried: more take minutes


def graph_of(mol: Chem.Mol) -> MolecularGraph:
    """The molecular graph of a sanitised molecule.

    Example:
        >>> graph_of(Chem.MolFromSmiles("C[NH3+]")).atom_features[:, [0, 3]].tolist()
        [[0, 3], [1, 3]]
    """
    rings = mol.GetRingInfo()
    atoms = [mol.GetAtomWithIdx(index) for index in range(mol.GetNumAtoms())]  # far quicker than `GetAtoms`
    bonds = [mol.GetBondWithIdx(index) for index in range(mol.GetNumBonds())]
    return MolecularGraph(
        np.array(
            [
                (
                    atom.GetFormalCharge(),
                    1 if atom.GetAtomicNum() == 1 else int(atom.GetHybridization()),  # of added hydrogens not yet known
                    atom.GetIsAromatic(),
                    atom.GetTotalNumHs(includeNeighbors=True),
                    min(rings.MinAtomRingSize(index), 127),
                    _CHIRALITY.get(atom.GetProp("_CIPCode"), 0) if atom.HasProp("_CIPCode") else 0,
                )
                for index, atom in enumerate(atoms)
            ]
        ),
        np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bonds]),
        np.array([(_ORDERS.get(bond.GetBondType(), 0), bond.GetIsConjugated(), bond.IsInRing()) for bond in bonds]),
    )


def perceive_bonds(structure: Structure) -> Structure:
    """The structure with a molecular graph that is perceived from its positions and its total charge.

    By RDKit's `rdDetermineBonds`: Kim and Kim 2015, doi 10.1002/bkcs.10334. A structure that has a graph stays as it
    is, and so does one that is periodic or no molecule.

    Raises:
        InputError: no bonds explain the geometry.

    Example:
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> perceive_bonds(water).molecular_graph.bonds.shape
        (2, 2)
    """
    if structure.molecular_graph is not None or structure.cell is not None or not structure.numbers.all():
        return structure
    rows = [
        f"{SYMBOLS[number]} {x} {y} {z}" for number, (x, y, z) in zip(structure.numbers, structure.pos, strict=True)
    ]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(rows)), "", *rows, ""]))
    graph, reason = with_orders(mol, structure.charge, structure.spin, connect=True)
    if graph is None:
        raise InputError(
            f"{structure.where or structure.formula}: its bonds cannot be perceived ({reason}): check its charge of "
            f"{structure.charge:+d}, give a file with bonds such as SDF, or have none perceived"
        )
    return replace(structure, molecular_graph=graph)


def with_orders(mol: Chem.Mol, charge: int, spin: int, connect: bool) -> tuple[MolecularGraph | None, str]:
    """The graph of a molecule whose hydrogens are all there and whose bonds have no known orders; or None, and why.

    The molecule, which has a conformer, is changed. From a multiplicity of 2 on, open valences are those of radicals
    and not of charged atoms. With `connect` its bonds too are found, by distances.
    """
    with rdBase.BlockLogs():
        try:
            if connect:
                rdDetermineBonds.DetermineConnectivity(mol)
            if mol.GetNumAtoms() > 1:  # which RDKit cannot
                rdDetermineBonds.DetermineBondOrders(mol, charge, spin == 1, maxIterations=_MOST_ITERATIONS)
            else:
                mol.GetAtomWithIdx(0).SetFormalCharge(charge)
            _uncharge_oxides(mol)
            Chem.SanitizeMol(mol)
            Chem.AssignStereochemistryFrom3D(mol)
        except DAMAGE as error:
            return None, one_line(error)
    if Chem.GetFormalCharge(mol) != charge:
        return None, f"their charges add up to {Chem.GetFormalCharge(mol):+d}"
    return graph_of(mol), ""


def _uncharge_oxides(mol: Chem.Mol) -> None:
    """Sulfoxides and their kin as SMILES are usually written: S=O, not [S+]-[O-]."""
    for bond in mol.GetBonds():
        ends = sorted((bond.GetBeginAtom(), bond.GetEndAtom()), key=Chem.Atom.GetFormalCharge)
        if [atom.GetFormalCharge() for atom in ends] == [-1, 1] and ends[1].GetAtomicNum() in (15, 16, 34):
            bond.SetBondType(Chem.BondType.DOUBLE)
            for atom in ends:
                atom.SetFormalCharge(0)
