import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from molformer.data import descriptors
from molformer.data.conformers import embed_smiles
from molformer.data.descriptor_table import chosen, descriptor_table
from molformer.data.descriptors import BITS, descriptors_of, with_inputs
from molformer.data.store import write_store
from molformer.data.structure import Structure
from molformer.models.descriptors import DescriptorSet

WATER = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
SET = DescriptorSet(("rdkit.MolLogP", "rdkit.TPSA", "rdkit.NoSuch"), 16, ("ecfp",))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "descriptors"


def test_a_choice_names_them():
    assert not chosen("none")
    assert chosen("ecfp") == DescriptorSet((), BITS, ("ecfp",))
    assert not chosen("rdkit").fingerprints
    assert len(chosen("rdkit").names) > 200
    assert all(name.startswith("rdkit.") for name in chosen("rdkit").names)
    assert chosen("both") == DescriptorSet(chosen("rdkit").names, BITS, ("ecfp",))


def test_values_are_those_of_rdkit():
    smiles = "CC(=O)Oc1ccccc1C(=O)O"
    found = descriptors_of(SET, smiles)
    mol = Chem.MolFromSmiles(smiles)
    assert found[0] == pytest.approx(Descriptors.MolLogP(mol))
    assert found[1] == pytest.approx(Descriptors.TPSA(mol))
    assert np.isnan(found[2])  # of another version of RDKit
    assert found[3:].sum() > mol.GetNumAtoms()  # an environment of each atom, and larger ones


def test_counts_of_circular_substructures_are_those_of_radius_two():
    mol = Chem.MolFromSmiles("CCCCCCO")
    expected = rdFingerprintGenerator.GetMorganGenerator(2, fpSize=BITS).GetCountFingerprintAsNumPy(mol)
    found = descriptors_of(DescriptorSet((), BITS, ("ecfp",)), "CCCCCCO")
    assert np.array_equal(found, expected)


def test_two_spellings_have_the_same():
    one, other = (descriptors_of(DescriptorSet((), BITS, ("ecfp",)), text) for text in ("OCC", "C(C)O"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("smiles", ["", "not a SMILES"])
def test_without_a_molecule_all_are_missing(smiles):
    (found,) = with_inputs(SET, [WATER.annotated(smiles=smiles)])
    assert found.descriptors.shape == (len(SET),)
    assert np.isnan(found.descriptors).all()


def test_a_table_has_a_row_for_each_structure_and_is_made_once(tmp_path, cache, monkeypatch):
    rows = [embed_smiles("CO"), WATER, embed_smiles("CCO"), embed_smiles("CO")]
    store = write_store(tmp_path / "store", rows)
    table = descriptor_table(store, SET)
    expected = np.stack([descriptors_of(SET, each.smiles) for each in rows])
    np.testing.assert_array_equal(table, expected)
    monkeypatch.setattr(descriptors, "descriptors_of", None)
    np.testing.assert_array_equal(descriptor_table(store, SET), expected)
    assert len(list(cache.iterdir())) == 1
    assert descriptor_table(store, DescriptorSet()) is None
