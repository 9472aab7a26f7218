"""MOL blocks of predicted structures, with bonds where they are known."""

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds
from rdkit.Geometry import Point3D

from molformer.data.conformers import canonical_smiles
from molformer.errors import MolformerError
from molformer.structure import Structure

FEW = 200  # number of atoms up to which bonds are inferred from coordinates, which is slow for larger structures


def molblock(structure: Structure | None, title: str = "") -> str:
    """MOL block of a structure, V3000 where it is too large for V2000; without atoms for None.

    A generated geometry has the bonds of its SMILES, a given one bonds inferred from distances.
    """
    mol = Chem.Mol() if structure is None else _from_smiles(structure) or _from_distances(structure)
    mol.SetProp("_Name", title)
    with rdBase.BlockLogs():
        return Chem.MolToMolBlock(mol, kekulize=False) if mol.HasProp("_plain") else Chem.MolToMolBlock(mol)


def _from_smiles(structure: Structure) -> Chem.Mol | None:
    """RDKit molecule of a SMILES with the generated coordinates; None if the atoms do not match."""
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
