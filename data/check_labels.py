"""Checks the labels against derivatives of the energy, against experiment and against labels computed anew.

Forces are minus the derivative of the energy by the positions, the dipole minus that by an electric field; both
derivatives are taken by central differences.

    python data/check_labels.py
"""

import textwrap
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from label_molecules import METHOD, as_stored, label, single_point
from tblite.interface import Calculator
from tblite.library import ffi

from molformer.data.conformers import embed_smiles
from molformer.data.store import StructureStore
from molformer.data.structure import Structure
from molformer.units import factor

HERE = Path(__file__).parent
STEP = 1e-3  # Å
FIELD = 1e-4  # atomic units
PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
MEASURED_DIPOLES = {
    "O": 1.85,
    "N": 1.47,
    "CO": 1.70,
    "CCO": 1.69,
    "C=O": 2.33,
    "CC(C)=O": 2.88,
    "CC#N": 3.92,
    "CF": 1.86,
    "CCl": 1.89,
    "CS": 1.52,
    "C[N+](=O)[O-]": 3.46,
    "c1ccncc1": 2.22,
    "c1ccccc1": 0.0,
}
"""Dipoles measured in the gas phase, D; from the CRC Handbook of Chemistry and Physics."""
MEASURED_ATOMIZATION = {"C": 18.2, "N": 12.9, "O": 10.1, "F": 6.1}
"""Measured atomization energies without zero-point energy, eV."""


def numerical_forces(structure: Structure) -> np.ndarray:
    """Minus the derivative of the energy by every coordinate (n, 3), eV/Å."""
    forces = np.empty_like(structure.pos)
    for index in np.ndindex(structure.pos.shape):
        shift = np.zeros_like(structure.pos)
        shift[index] = STEP
        ahead, behind = (
            single_point(structure.numbers, structure.pos + sign * shift).get("energy") for sign in (1, -1)
        )
        forces[index] = -(ahead - behind) / (2 * STEP) * factor("Ha", "eV")
    return forces


def numerical_dipole(structure: Structure) -> np.ndarray:
    """Minus the derivative of the energy by a uniform electric field (3,), D."""
    dipole = np.empty(3)
    for axis, field in enumerate(FIELD * np.eye(3)):
        slope = (energy_in_field(structure, field) - energy_in_field(structure, -field)) / (2 * FIELD)
        dipole[axis] = -slope * factor("e·a0", "D")
    return dipole


def energy_in_field(structure: Structure, field: np.ndarray) -> float:
    """Energy in a uniform electric field (3,), both in atomic units."""
    calculator = Calculator(METHOD, structure.numbers, structure.pos * factor("Å", "a0"))
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 1e-3)
    calculator.add("electric-field", ffi.new("double[3]", field.tolist()))  # tblite takes no array here
    return float(calculator.singlepoint().get("energy"))


def largest_difference(store: StructureStore, count: int, seed: int) -> dict[str, float]:
    """Largest difference between stored labels and labels computed anew, for a random choice of structures."""
    rows = np.random.default_rng(seed).choice(len(store), count, replace=False)
    differences = dict.fromkeys(store.labels, 0.0)
    for row in rows.tolist():
        stored, anew = store[row].labels, label(store[row]).labels
        for name in differences:
            differences[name] = max(differences[name], float(np.abs(stored[name] - anew[name]).max()))
    return differences


def print_measured(name: str, measured: dict[str, float], unit: str, digits: int) -> None:
    """Print a label of some molecules, the length of a vector, with the measured values in brackets."""
    texts = []
    for smiles, value in measured.items():
        ours = np.linalg.norm(label(embed_smiles(smiles)).labels[name])
        texts.append(f"{smiles} {ours:.{digits}f} ({value:.{digits}f})")
    text = f"{name}, {unit}, GFN2-xTB (measured): {', '.join(texts)}"
    print(textwrap.fill(text, width=110, subsequent_indent="    "))


def main(
    store: Annotated[Path, typer.Option(help="The labelled set.")] = HERE / "gfn2.safetensors",
    count: Annotated[int, typer.Option(help="Stored structures that are computed anew.")] = 100,
) -> None:
    """Print all checks."""
    molecule = label(as_stored(embed_smiles(PARACETAMOL)))
    difference = np.abs(molecule.labels["forces"] - numerical_forces(molecule)).max()
    print(f"forces of {PARACETAMOL}: largest {np.abs(molecule.labels['forces']).max():.3f} eV/Å, ", end="")
    print(f"largest difference from -dE/dr {difference:.1e} eV/Å")
    difference = np.abs(molecule.labels["dipole"] - numerical_dipole(molecule)).max()
    print(f"dipole of {PARACETAMOL}: {np.linalg.norm(molecule.labels['dipole']):.3f} D, ", end="")
    print(f"largest difference from the derivative by a field {difference:.1e} D")
    print_measured("dipole", MEASURED_DIPOLES, "D", 2)
    print_measured("atomization_energy", MEASURED_ATOMIZATION, "eV", 1)
    opened = StructureStore(store)
    opened.verify()
    print(f"{opened.path.name}: the content agrees with its hash; {count} structures labelled anew differ by up to")
    for name, largest in largest_difference(opened, count, seed=7).items():
        print(f"    {name}: {largest:.1e} {opened.label(name).unit}")


if __name__ == "__main__":
    typer.run(main)
