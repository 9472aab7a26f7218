"""Molecules of other libraries as entries: RDKit's `Mol` and ASE's `Atoms`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from molformer.data.known_labels import known_label, shaped
from molformer.data.readers.annotations import CHARGE, SPIN, refuse_placeholders, whole_number
from molformer.data.readers.entry import Entry
from molformer.errors import InputError
from molformer.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

_RESULTS = ("energy", "forces", "stress", "dipole", "charges")


def from_rdkit(mol: "Mol") -> Entry:
    """The entry of an RDKit molecule: its first conformer if that is 3-D (with all hydrogens), else its SMILES.

    Its property `_Name` is the name. The entry has an error if the molecule cannot be used.

    Example:
        >>> from rdkit import Chem
        >>> from_rdkit(Chem.MolFromSmiles("OCC")).smiles
        'CCO'
    """
    from molformer.data.readers.molfile import entry_of

    name = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
    where = name or "RDKit molecule"
    try:
        solid = mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()
        entry = entry_of(mol, where, name, solid)
    except InputError as error:
        return Entry(where, where=where, error=error)
    title = name or entry.smiles or (entry.structure.smiles if entry.structure else "")
    return entry if name else Entry(title, structure=entry.structure, smiles=entry.smiles)


def from_ase(atoms: "Atoms") -> Entry:
    """The entry of ASE atoms, with their cell if it is periodic, and with an error if they cannot be used.

    What their calculator has computed for these positions comes along as labels in ASE's units: `energy` (eV), `forces`
    (eV/Å), `stress` (eV/Å³, if they are periodic in three directions), `dipole` (e·Å) and `charges` (e). Nothing is
    computed anew. The total charge is `atoms.info["charge"]`, or else the sum of their initial charges; the
    multiplicity is `atoms.info["spin"]` (or `multiplicity`), or else 1 plus the sum of their initial magnetic moments.

    Example:
        >>> from ase import Atoms
        >>> from_ase(Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])).name
        'H2O'
    """
    title = str(atoms.info.get("name", "")).strip()
    try:
        refuse_placeholders(atoms.numbers)
        structure = Structure(
            numbers=atoms.numbers,
            pos=atoms.positions,
            charge=_state(atoms, CHARGE, atoms.get_initial_charges().sum(), "initial charges sum to"),
            spin=_state(atoms, SPIN, 1 + abs(atoms.get_initial_magnetic_moments().sum()), "initial moments make 2S+1"),
            name=title,
            labels=_labels(atoms),
            **_lattice(atoms),
        )
    except InputError as error:
        name = title or "ASE atoms"
        message = str(error) if title and title in str(error) else f"{name}: {error}"
        return Entry(name, where=name, error=InputError(message))
    return Entry(title or structure.formula, where=title, structure=structure)


def _state(atoms: "Atoms", names: tuple[str, ...], default: float, initial: str) -> int:
    """Charge or multiplicity of `atoms.info`, or else what the initial values of the atoms add up to."""
    if any(str(name).lower() in names for name in atoms.info) or abs(default - np.rint(default)) < 1e-3:
        return whole_number(atoms.info, names, default)
    raise InputError(f"its {initial} {default:.3g}, which is no whole number: set atoms.info['{names[0]}']")


def _lattice(atoms: "Atoms") -> dict[str, Any]:
    """Cell and periodic directions; a direction that is not periodic and has no vector gets one."""
    if not atoms.pbc.any():
        return {}
    if any(not vector.any() for vector, periodic in zip(atoms.cell.array, atoms.pbc, strict=True) if periodic):
        raise InputError("a periodic direction has no lattice vector: set the cell")
    return {"cell": atoms.cell.complete().array, "pbc": tuple(bool(flag) for flag in atoms.pbc)}


def _labels(atoms: "Atoms") -> dict[str, np.ndarray]:
    """What a calculator has computed for the atoms as they are."""
    calculator = atoms.calc
    if calculator is None or not hasattr(calculator, "check_state") or calculator.check_state(atoms):
        return {}
    labels = {}
    for name in _RESULTS:
        value, label = calculator.results.get(name), known_label(name)
        if value is None or label is None or (name == "stress" and not (atoms.pbc.all() and atoms.cell.rank == 3)):
            continue
        rows = (len(atoms),) if label.per_node else ()
        array = np.asarray(value, dtype=np.float64)
        if array.shape[: len(rows)] == rows and label.target_kind.fits(array.shape[len(rows) :]):
            labels[name] = shaped(label, array, rows)
    return labels
