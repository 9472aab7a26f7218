import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molformer.data.readers import library_of, read_input
from molformer.data.readers.objects import from_ase, from_rdkit


def solid(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    return mol


WATER = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_an_rdkit_molecule_with_a_conformer_is_used_as_it_is():
    mol = solid("C[NH3+]")
    mol.SetProp("_Name", "methylammonium")
    (entry,) = read_input(mol)
    assert entry.name == "methylammonium"
    assert np.array_equal(entry.structure.pos, mol.GetConformer().GetPositions())
    assert (entry.structure.charge, entry.structure.geometry, entry.structure.smiles) == (1, "given", "C[NH3+]")


def test_an_rdkit_molecule_without_one_becomes_its_smiles():
    (entry,) = read_input(Chem.MolFromSmiles("OC[C@H](F)Cl"))
    assert (entry.structure, entry.smiles) == (None, Chem.CanonSmiles("OC[C@H](F)Cl"))
    assert entry.name == entry.smiles
    assert from_rdkit(Chem.AddHs(Chem.MolFromSmiles("C"))).smiles == "C"


@pytest.mark.parametrize(
    ("mol", "message"),
    [
        (Chem.RemoveHs(solid("CCO")), "lacks 6 of its hydrogens"),
        (Chem.MolFromSmiles("*C"), "atom 1 is a placeholder"),
        (Chem.MolFromSmarts("[C,N]"), "atom 1 is a placeholder"),
        (Chem.MolFromSmiles("F(C)C", sanitize=False), "not a possible molecule: Explicit valence"),
        (Chem.Mol(), "has no atoms"),
    ],
)
def test_an_rdkit_molecule_that_cannot_be_used_says_why(mol, message):
    (entry,) = read_input(mol)
    assert message in str(entry.error)
    assert entry.structure is None


def test_the_molecule_is_not_changed():
    mol = Chem.MolFromSmiles("OCC", sanitize=False)
    assert from_rdkit(mol).smiles == "CCO"
    assert mol.GetAtomWithIdx(0).NeedsUpdatePropertyCache()


def test_ase_atoms():
    (entry,) = read_input(WATER)
    assert (entry.name, entry.structure.charge, entry.structure.spin) == ("H2O", 0, 1)
    assert entry.structure.cell is None
    assert np.array_equal(entry.structure.pos, WATER.positions)


def test_charge_and_multiplicity_of_ase_atoms():
    atoms = WATER.copy()
    atoms.info.update(charge=1, spin=2, name="cation")
    entry = from_ase(atoms)
    assert (entry.name, entry.structure.charge, entry.structure.spin) == ("cation", 1, 2)
    atoms = WATER.copy()
    atoms.set_initial_charges([-0.5, -0.25, -0.25])
    atoms.set_initial_magnetic_moments([1, 0, 0])
    assert (from_ase(atoms).structure.charge, from_ase(atoms).structure.spin) == (-1, 2)
    atoms.set_initial_charges([-0.5, -0.25, 0])
    assert "its initial charges sum to -0.75, which is no whole number: set atoms" in str(from_ase(atoms).error)
    atoms.info["charge"] = "neutral"
    assert "charge 'neutral' is not a whole number" in str(from_ase(atoms).error)


def test_periodic_ase_atoms():
    atoms = WATER.copy()
    atoms.set_cell([9, 9, 0])
    assert from_ase(atoms).structure.cell is None
    atoms.pbc = (True, True, False)
    structure = from_ase(atoms).structure
    assert structure.pbc == (True, True, False)
    assert np.array_equal(structure.cell[:2], [[9, 0, 0], [0, 9, 0]])
    atoms.pbc = True
    assert "ASE atoms: a periodic direction has no lattice vector" in str(from_ase(atoms).error)


def test_ase_atoms_that_cannot_be_used_say_why():
    atoms = WATER.copy()
    atoms.positions[1] = np.nan
    assert "ASE atoms: the position of atom 2 is not a finite number" in str(from_ase(atoms).error)
    assert "has no atoms" in str(from_ase(Atoms()).error)


def test_the_library_of_an_object_is_found_without_importing_it():
    class Own(Chem.Mol):
        pass

    assert [library_of(thing) for thing in (Own(), WATER, "CCO", None, np.zeros(3))] == ["rdkit", "ase", "", "", ""]
    code = (
        "import sys; from molformer.data.readers import read_input; list(read_input('CCO')); "
        "assert not {'rdkit', 'ase', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_results_of_an_ase_calculator_are_labels():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    (bare,) = read_input(atoms)
    assert not bare.structure.labels  # nothing is computed
    expected = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    expected["stress"] = atoms.get_stress(voigt=False)
    (entry,) = read_input(atoms)
    assert set(entry.structure.labels) == set(expected)
    for name, value in expected.items():
        assert np.allclose(entry.structure.labels[name], value, atol=1e-12)
    atoms.positions[0] += 0.1
    (moved,) = read_input(atoms)
    assert not moved.structure.labels  # they belong to other positions
    atoms.pbc = (True, True, False)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, stress=np.arange(6.0), magmoms=np.ones(4))
    (slab,) = read_input(atoms)
    assert list(slab.structure.labels) == ["energy"]


def test_moments_that_are_no_multiplicity_are_called_what_they_are():
    atoms = WATER.copy()
    atoms.set_initial_magnetic_moments([0.6, 0, 0])
    assert "its initial moments make 2S+1 1.6, which is no whole number: set atoms.info['spin']" in str(
        from_ase(atoms).error
    )
    atoms.info["Multiplicity"] = 1
    assert from_ase(atoms).structure.spin == 1


def test_dummy_atoms_of_ase_are_refused():
    assert "placeholder" in str(from_ase(Atoms("XH2", np.eye(3))).error)
