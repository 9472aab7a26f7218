"""3-D geometries from molecular graphs: ETKDGv3, then a force field.

The molecule is first rewritten in canonical order, so that every spelling of it gives the same geometry; with the
order as written, two spellings of one molecule end up 1 Å apart. ETKDGv3: Wang et al. 2020,
doi 10.1021/acs.jcim.0c00025; MMFF94: Halgren 1996; UFF, where MMFF94 has no parameters: Rappé et al. 1992.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molformer.data.structure import Structure
from molformer.errors import ConfigError, ConformerError, InputError

GeometryMethod = Literal["etkdg", "etkdg+mmff"]

_GEOMETRY = "_molformer_geometry"  # property of an RDKit molecule that says how its conformer was made


@dataclass(frozen=True)
class ConformerPolicy:
    """How a molecule without coordinates gets them.

    Args:
        method: `etkdg` (embedding alone) or `etkdg+mmff` (relaxed with MMFF94, or UFF where that lacks parameters).
        seed: of the embedding; the same seed gives the same geometry.
        timeout: seconds after which the embedding of one molecule is given up.
        max_iterations: force-field steps.

    Raises:
        ConfigError: the method is not known.
    """

    method: GeometryMethod = "etkdg+mmff"
    seed: int = 7
    timeout: int = 30
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        if self.method not in get_args(GeometryMethod):
            raise ConfigError(f"conformer method '{self.method}' is not one of {', '.join(get_args(GeometryMethod))}")


def parse_smiles(smiles: str, name: str = "") -> Chem.Mol:
    """The RDKit molecule of a SMILES.

    Raises:
        InputError: it is not a valid SMILES; the message says why.

    Example:
        >>> parse_smiles("CCO").GetNumAtoms()
        3
    """
    where = f"{name}: " if name else ""
    if not smiles.strip():
        raise InputError(f"{where}the SMILES is empty")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles, sanitize=False)
        if mol is None:
            raise InputError(f"{where}'{smiles}' is not a SMILES: check brackets, ring closures and element symbols")
        problems = Chem.DetectChemistryProblems(mol)
        if problems:
            raise InputError(f"{where}'{smiles}' is not a possible molecule: {problems[0].Message()}")
        Chem.SanitizeMol(mol)
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    if mol.GetNumAtoms() == 0:
        raise InputError(f"{where}the SMILES '{smiles}' has no atoms")
    return mol


def embed_smiles(smiles: str, policy: ConformerPolicy | None = None, name: str = "") -> Structure:
    """A structure with hydrogens and a 3-D geometry from a SMILES.

    Args:
        smiles: one connected molecule.
        policy: how the geometry is made.
        name: its title or row, for messages.

    Raises:
        InputError: it is not a valid SMILES.
        ConformerError: no geometry could be made; the message says why.

    Example:
        >>> embed_smiles("OCC").formula
        'C2H6O'
    """
    mol = canonical_order(parse_smiles(smiles, name), smiles)
    return structure_of(embed(mol, policy or ConformerPolicy(), name or smiles), smiles=smiles, name=name)


def canonical_order(mol: Chem.Mol, smiles: str) -> Chem.Mol:
    """The same molecule with atoms and bonds in the order of its canonical SMILES.

    Raises:
        InputError: an atom is a dummy ('*'), which has no element.
    """
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise InputError(f"'{smiles}' has a dummy atom (*), which is no element: replace it")
    return parse_smiles(Chem.MolToSmiles(Chem.RemoveHs(mol)))


def embed(mol: Chem.Mol, policy: ConformerPolicy, name: str) -> Chem.Mol:
    """Add hydrogens and one conformer to a molecule.

    Raises:
        ConformerError: the molecule is in several pieces, or embedding or relaxation failed.
    """
    if len(Chem.GetMolFrags(mol)) > 1:
        raise ConformerError(f"'{name}' has {len(Chem.GetMolFrags(mol))} separate parts: give one molecule at a time")
    mol = Chem.AddHs(mol)
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = policy.seed
    parameters.timeout = policy.timeout
    parameters.trackFailures = True
    with rdBase.BlockLogs():
        if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
            parameters.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
                raise ConformerError(
                    f"'{name}' could not be embedded in 3-D ({_failure(parameters)}): "
                    "give its coordinates in an XYZ file"
                )
        relaxed = f"+{_relax(mol, policy.max_iterations, name)}" if policy.method == "etkdg+mmff" else ""
    mol.SetProp(_GEOMETRY, f"etkdg{relaxed}")
    return mol


def structure_of(mol: Chem.Mol, smiles: str = "", name: str = "") -> Structure:
    """The structure of an RDKit molecule that has a conformer."""
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    return Structure(
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        pos=mol.GetConformer().GetPositions(),
        charge=Chem.GetFormalCharge(mol),
        spin=radicals + 1,
        smiles=smiles,
        name=name,
        geometry=mol.GetProp(_GEOMETRY) if mol.HasProp(_GEOMETRY) else "given",
    )


def _relax(mol: Chem.Mol, max_iterations: int, name: str) -> str:
    """Relax the conformer in place; the name of the force field that could do it."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        field, status = "mmff", rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=max_iterations)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        field, status = "uff", rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=max_iterations)
    else:
        raise ConformerError(
            f"'{name}' has atoms that neither MMFF94 nor UFF has parameters for: give its coordinates in an XYZ file"
        )
    if status < 0:
        raise ConformerError(f"the force field could not be set up for '{name}'")
    return field


def _failure(parameters: rdDistGeom.EmbedParameters) -> str:
    counts = list(parameters.GetFailureCounts())
    names = list(rdDistGeom.EmbedFailureCauses.names)
    if not any(counts):
        return "time ran out"
    return "most often: " + names[counts.index(max(counts))].replace("_", " ").lower()
