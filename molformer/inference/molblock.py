"""MOL blocks of the geometries that were used, with bonds where they are known."""

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds
from rdkit.Geometry import Point3D

from molformer.data.conformers import canonical_smiles
from molformer.errors import MolformerError
from molformer.structure import Structure

FEW = 200
"""Atoms up to which bonds are looked for in given coordinates, which takes long for more."""


def molblock(structure: Structure | None, title: str = "") -> str:
    """The MOL block of a structure, V3000 where it is too large for V2000; one without atoms for None.

    Args:
        structure: a geometry that was made from a SMILES has the bonds of that, one that was given those that its
            distances tell.
        title: a line.
    """
    mol = Chem.Mol() if structure is None else _from_smiles(structure) or _from_distances(structure)
    mol.SetProp("_Name", title)
    with rdBase.BlockLogs():
        return Chem.MolToMolBlock(mol, kekulize=False) if mol.HasProp("_plain") else Chem.MolToMolBlock(mol)


def _from_smiles(structure: Structure) -> Chem.Mol | None:
    """The molecule of a SMILES with the coordinates that were made for it; None if they were made otherwise."""
    if not structure.smiles or not structure.geometry.startswith("etkdg"):
        return None
    try:
        canonical = canonical_smiles(structure.smiles)
    except MolformerError:
        return None
    mol = Chem.AddHs(Chem.MolFromSmiles(canonical))
    if [atom.GetAtomicNum() for atom in mol.GetAtoms()] != structure.numbers.tolist():
        return None
    mol.AddConformer(_conformer(structure))
    return mol


def _from_distances(structure: Structure) -> Chem.Mol:
    mol = Chem.RWMol()
    for number in structure.numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    mol.AddConformer(_conformer(structure))
    plain = mol.GetMol()
    plain.SetProp("_plain", "1")
    if len(structure) > FEW or structure.cell is not None or 0 in structure.numbers:
        return plain
    with rdBase.BlockLogs():
        try:
            bonded = Chem.Mol(plain)
            rdDetermineBonds.DetermineBonds(bonded, charge=structure.charge)
            Chem.SanitizeMol(bonded)
        except (RuntimeError, ValueError):
            return plain
    bonded.ClearProp("_plain")
    return bonded


def _conformer(structure: Structure) -> Chem.Conformer:
    conformer = Chem.Conformer(len(structure))
    for index, place in enumerate(structure.pos.tolist()):
        conformer.SetAtomPosition(index, Point3D(*place))
    return conformer
