"""Conformer generation: ETKDGv3 embedding, then force-field relaxation.

Atoms are first brought to canonical order, so that all SMILES of a molecule give the same geometry; otherwise two
SMILES of one molecule can differ by 1 Å. ETKDGv3: Wang et al. 2020,
doi 10.1021/acs.jcim.0c00025; MMFF94: Halgren 1996; UFF, where MMFF94 has no parameters: Rappé et al. 1992.

Imports RDKit and numpy only, so that worker processes start in a fraction of a second.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolDescriptors

from molformer.data.bonds import graph_of
from molformer.data.gfn2 import check_gfn2, relax
from molformer.errors import ConfigError, ConformerError, InputError, check_choices
from molformer.molecular_graph import MolecularGraph
from molformer.structure import Salts, Structure

GeometryMethod = Literal["etkdg", "etkdg+mmff", "etkdg+mmff+gfn2", "given"]

MORE_STEPS = 4
"""Factor of `ConformerPolicy.max_iterations` for the single continuation of an unconverged relaxation."""

_AS_WRITTEN = Chem.SmilesParserParams()
_AS_WRITTEN.removeHs = False

_SMILES = re.compile(r"([!-~]+)(\s+\|[ -~]*\|)?")  # with an extension (CXSMILES); RDKit ignores what follows
_MARKED = re.compile(r"\[\d|:|\|")  # in every SMILES with isotopes or atom maps

_GAP = 3.0  # Å between the parts of a molecule before they are relaxed

_GEOMETRY = "_molformer_geometry"  # property of an RDKit molecule that says how its conformer was made


@dataclass(frozen=True)
class ConformerPolicy:
    """Policy of conformer generation.

    Args:
        method: `given` (none: coordinates are required), `etkdg` (embedding only), `etkdg+mmff` (relaxed with MMFF94,
            or UFF if MMFF94 lacks parameters) or `etkdg+mmff+gfn2` (then with GFN2-xTB, by the extra `xtb`).
        num_conformers: number of generated conformers; a single result is the one of lowest force-field energy.
        seed: of the embedding; the same seed gives the same geometry.
        timeout: time limit of the embedding of one conformer, s.
        max_iterations: force-field steps, see `MORE_STEPS`.
        add_hydrogens: whether to add hydrogens; otherwise only explicit ones are present.
        salts: for a SMILES of several fragments, `refuse` it, use the `largest` by heavy atoms, or `keep` all, placed
            side by side and relaxed together.

    Raises:
        ConfigError: the method is unknown or not installed, or a number is not positive.
    """

    method: GeometryMethod = "etkdg+mmff"
    num_conformers: int = 1
    seed: int = 7
    timeout: int = 30
    max_iterations: int = 1000
    add_hydrogens: bool = True
    salts: Salts = field(default="refuse", repr=False)  # the representation is the key of caches

    def __post_init__(self) -> None:
        check_choices(self, of="conformer ")
        if self.relaxes_by_gfn2:
            check_gfn2()
        for name in ("num_conformers", "timeout", "max_iterations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of the conformers is {getattr(self, name)}: it must be 1 or more")

    @property
    def relaxes_by_gfn2(self) -> bool:
        """Whether GFN2-xTB relaxes the geometries."""
        return self.method.endswith("+gfn2")


def parse_smiles(smiles: str, name: str = "") -> Chem.Mol:
    """The RDKit molecule of a SMILES.

    Raises:
        InputError: it is not a valid SMILES; the message says why.

    Example:
        >>> parse_smiles("CCO").GetNumAtoms()
        3
    """
    where = f"{name}: " if name else ""
    smiles = smiles.strip()
    if not smiles:
        raise InputError(f"{where}the SMILES is empty")
    if not _SMILES.fullmatch(smiles):
        other = next((letter for letter in smiles if not " " <= letter <= "~"), "")
        reason = f"none has the character {other!r}" if other else "text follows a blank; a title needs its own column"
        raise InputError(f"{where}'{smiles}' is not a SMILES: {reason}")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles, _AS_WRITTEN)
        if mol is not None and mol.GetNumAtoms():
            return mol
        mol = Chem.MolFromSmiles(smiles, sanitize=False)
        if mol is None:
            raise InputError(f"{where}'{smiles}' is not a SMILES: check brackets, ring closures and element symbols")
        if mol.GetNumAtoms() == 0:
            raise InputError(f"{where}the SMILES '{smiles}' has no atoms")
        problems = [problem.Message() for problem in Chem.DetectChemistryProblems(mol)]
    reason = problems[0] if problems else "RDKit cannot make sense of it"
    raise InputError(f"{where}'{smiles}' is not a possible molecule: {reason}")


def canonical_smiles(smiles: str, add_hydrogens: bool = True, name: str = "") -> str:
    """Canonical SMILES for conformer generation, without isotopes and atom maps.

    Args:
        smiles: any SMILES of the molecule.
        add_hydrogens: as in the policy; if not, hydrogens that are atoms stay.
        name: its title or row, for messages.

    Raises:
        InputError: it is not a valid SMILES, or an atom is a dummy ('*'), which has no element.

    Example:
        >>> canonical_smiles("OCC"), canonical_smiles("[2H]O[H]"), canonical_smiles("[CH3:2][OH:1]")
        ('CCO', 'O', 'CO')
    """
    with rdBase.BlockLogs():
        quick = add_hydrogens and _SMILES.fullmatch(smiles) and not _MARKED.search(smiles)
        mol = Chem.MolFromSmiles(smiles) if quick else None  # without hydrogens
        if mol is None or mol.GetNumAtoms() == 0:  # with marks to take off, or to know why not
            mol = _unmarked(parse_smiles(smiles, name))
            mol = Chem.RemoveHs(mol) if add_hydrogens else mol
        canonical = Chem.MolToSmiles(mol)
    if "*" in canonical:
        where = f"{name}: " if name else ""
        raise InputError(f"{where}'{smiles}' has a dummy atom (*), which is no element: replace it")
    return canonical


def largest_part(smiles: str) -> str:
    """The fragment with most heavy atoms, then largest mass; unchanged for a single fragment.

    Raises:
        InputError: it is not a valid SMILES.

    Example:
        >>> largest_part("[Na+].CC(=O)[O-]"), largest_part("OCC")
        ('CC(=O)[O-]', 'OCC')
    """
    parts = Chem.GetMolFrags(parse_smiles(smiles), asMols=True)
    ranked = [
        (part.GetNumHeavyAtoms(), rdMolDescriptors.CalcExactMolWt(part), Chem.MolToSmiles(part)) for part in parts
    ]
    return smiles if len(ranked) == 1 else max(ranked)[2]


def group_of(smiles: str) -> int:
    """The group of a molecule for splits, which all rows of that molecule share.

    It is a hash of the first block of the InChIKey of the largest part, that is, of formula and connectivity.
    Spellings, stereoisomers, most tautomers, isotopes, acids and their salts are one group: with one of
    them in training, another is no independent test.

    Example:
        >>> group_of("CC(=O)O") == group_of("[Na+].[O-]C(C)=O"), group_of("CCO") == group_of("COC")
        (True, False)
    """
    with rdBase.BlockLogs():
        mol = parse_smiles(largest_part(smiles) if "." in smiles else smiles)
        key = Chem.MolToInchiKey(mol)[:14] or Chem.MolToSmiles(_unmarked(mol), isomericSmiles=False)
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])


def embed_smiles(smiles: str, policy: ConformerPolicy | None = None, name: str = "") -> Structure:
    """Structure with hydrogens and a generated 3-D geometry, from a SMILES.

    Args:
        smiles: one molecule.
        policy: of conformer generation.
        name: its title or row, for messages.

    Raises:
        InputError: it is not a valid SMILES.
        ConformerError: no geometry could be made; the message says why.

    Example:
        >>> embed_smiles("OCC").formula
        'C2H6O'
    """
    return embed_smiles_all(smiles, policy, name)[0]


def embed_smiles_all(smiles: str, policy: ConformerPolicy | None = None, name: str = "") -> list[Structure]:
    """All conformers of a SMILES, by increasing force-field energy; there may be fewer than `num_conformers`.

    The arguments are those of `embed_smiles`.

    Raises:
        InputError: it is not a valid SMILES.
        ConformerError: no geometry could be made; the message says why.

    Example:
        >>> len(embed_smiles_all("OCC", ConformerPolicy(num_conformers=3)))
        3
    """
    policy = policy or ConformerPolicy()
    smiles = largest_part(smiles) if policy.salts == "largest" else smiles
    canonical = canonical_smiles(smiles, policy.add_hydrogens, name)
    where = f"{name}: " if name else ""
    try:
        return [structure.annotated(smiles=smiles, name=name) for structure in embed_canonical(canonical, policy)]
    except ConformerError as error:
        raise ConformerError(f"{where}'{smiles}' {error}") from None


def embed_canonical(canonical: str, policy: ConformerPolicy) -> list[Structure]:
    """Conformers of a canonical SMILES (not checked).

    Raises:
        ConformerError: no geometry could be made; the message is the rest of a sentence that begins with the molecule.
    """
    if policy.method == "given":
        raise ConformerError(
            "has no coordinates and the policy is to use only given ones: read it from a file with coordinates, or "
            "choose the method 'etkdg+mmff'"
        )
    mol = parse_smiles(canonical)
    parts = len(Chem.GetMolFrags(mol))
    if parts > 1 and policy.salts != "keep":
        raise ConformerError(f"has {parts} separate parts: give one molecule, or take the largest with --salts largest")
    try:
        with rdBase.BlockLogs():
            made = [structure_of(conformer) for conformer in _conformers(mol, policy)]
    except (RuntimeError, ValueError) as error:  # what RDKit raises, a stack trace after the first lines
        reason = " ".join(line for line in str(error).splitlines()[:3] if line.strip("* \t"))
        raise ConformerError(f"could not be embedded in 3-D ({reason}): give its coordinates in an XYZ file") from None
    return [relax(each) for each in made] if policy.relaxes_by_gfn2 else made


def canonical_graph(canonical: str, policy: ConformerPolicy) -> MolecularGraph:
    """The molecular graph of what `embed_canonical` makes geometries of."""
    mol = parse_smiles(canonical)
    return graph_of(Chem.AddHs(mol) if policy.add_hydrogens else mol)


def structure_of(mol: Chem.Mol, smiles: str = "", name: str = "", bonds: bool = True) -> Structure:
    """The structure of an RDKit molecule that has a conformer, with its bonds if they are to be trusted."""
    atoms = [mol.GetAtomWithIdx(index) for index in range(mol.GetNumAtoms())]  # far quicker than `GetAtoms`
    radicals = sum([atom.GetNumRadicalElectrons() for atom in atoms])
    return Structure(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms]),
        pos=mol.GetConformer().GetPositions(),
        charge=Chem.GetFormalCharge(mol),
        spin=radicals + 1,
        smiles=smiles,
        name=name,
        geometry=mol.GetProp(_GEOMETRY) if mol.HasProp(_GEOMETRY) else "given",
        molecular_graph=graph_of(mol) if bonds else None,
    )


def _conformers(mol: Chem.Mol, policy: ConformerPolicy) -> list[Chem.Mol]:
    """Molecules with one conformer each, by increasing energy."""
    if policy.add_hydrogens:
        mol = Chem.AddHs(mol)
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = policy.seed
    parameters.timeout = policy.timeout
    parameters.trackFailures = True
    made = list(rdDistGeom.EmbedMultipleConfs(mol, policy.num_conformers, parameters))
    if not made:
        parameters.useRandomCoords = True
        made = list(rdDistGeom.EmbedMultipleConfs(mol, policy.num_conformers, parameters))
    if not made:
        raise ConformerError(
            f"could not be embedded in 3-D ({_failure(parameters)}): give its coordinates in an XYZ file"
        )
    conformers = [mol] if len(made) == 1 else [Chem.Mol(mol, confId=index) for index in made]
    if len(parts := Chem.GetMolFrags(mol)) > 1:
        for conformer in conformers:
            _place_side_by_side(conformer, parts)
    alone = mol.GetNumAtoms() == 1  # nothing to relax, and no force field knows all elements
    relaxed = policy.method.startswith("etkdg+mmff") and not alone
    energies = []
    for conformer in conformers:
        conformer.SetProp(_GEOMETRY, "etkdg")
        if relaxed or (len(conformers) > 1 and not alone):
            energies.append(_energy(conformer, policy.max_iterations if relaxed else 0))
    order = np.argsort(energies, kind="stable") if energies else range(len(conformers))
    return [conformers[index] for index in order]


def _unmarked(mol: Chem.Mol) -> Chem.Mol:
    """The molecule without isotopes and atom maps, and stereocentres that depend on them."""
    for atom in mol.GetAtoms():
        atom.SetIsotope(0)
        atom.SetAtomMapNum(0)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    return mol


def _place_side_by_side(mol: Chem.Mol, parts: Sequence[Sequence[int]]) -> None:
    """Separate the fragments of a conformer, which are embedded at the origin, along x."""
    pos, end = mol.GetConformer().GetPositions(), 0.0
    for part in map(list, parts):
        pos[part] -= [pos[part, 0].min() - end, *pos[part, 1:].mean(0)]
        end = pos[part, 0].max() + _GAP
    mol.GetConformer().SetPositions(pos)


def _energy(mol: Chem.Mol, max_iterations: int) -> float:
    """Force-field energy of the conformer, kcal/mol, after relaxation in place by this number of iterations."""
    parameters, together = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol), {"ignoreInterfragInteractions": False}
    if parameters is not None:
        name, field = "mmff", rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters, **together)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        name, field = "uff", rdForceFieldHelpers.UFFGetMoleculeForceField(mol, **together)
    elif not max_iterations:
        return 0.0
    else:
        raise ConformerError(
            "has atoms that neither MMFF94 nor UFF has parameters for: give its coordinates in an XYZ file"
        )
    if field is None:
        raise ConformerError("is a molecule for which the force field could not be set up: give its coordinates")
    field.Initialize()
    if max_iterations:
        failed = field.Minimize(maxIts=max_iterations) and field.Minimize(maxIts=MORE_STEPS * max_iterations)
        mol.SetProp(_GEOMETRY, f"etkdg+{name}{', not converged' if failed else ''}")
    return field.CalcEnergy()


def _failure(parameters: rdDistGeom.EmbedParameters) -> str:
    counts = list(parameters.GetFailureCounts())
    names = list(rdDistGeom.EmbedFailureCauses.names)
    if not any(counts):
        return "time ran out"
    return "most often: " + names[counts.index(max(counts))].replace("_", " ").lower()
