import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, Descriptors, Descriptors3D

from molformer.data.conformers import embed_smiles
from molformer.data.descriptors import LABELS, described, with_descriptors
from molformer.data.readers import Entry
from molformer.data.structure import Structure
from molformer.errors import InputError


def test_they_are_those_of_rdkit():
    aspirin = embed_smiles("CC(=O)Oc1ccccc1C(=O)O")
    labels = described(aspirin).labels
    assert len(LABELS) == len(labels) > 200
    mol = Chem.MolFromSmiles(aspirin.smiles)
    assert labels["rdkit.MolLogP"] == Descriptors.MolLogP(mol)
    assert labels["rdkit.TPSA"] == Descriptors.TPSA(mol)
    whole = Chem.AddHs(mol)
    AllChem.EmbedMolecule(whole)
    whole.GetConformer().SetPositions(aspirin.pos)
    for name, function in Descriptors3D.descList:
        assert labels[f"rdkit.{name}"] == pytest.approx(function(whole), rel=1e-6), name


def test_other_labels_stay():
    assert described(embed_smiles("CO").annotated(labels={"gap": 2.0})).labels["gap"] == 2.0


@pytest.mark.parametrize("smiles", ["", "not a SMILES"])
def test_without_a_molecular_graph_those_of_the_shape_are_left(smiles):
    labels = described(Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], smiles=smiles)).labels
    assert np.isnan(labels["rdkit.MolLogP"])
    assert labels["rdkit.RadiusOfGyration"] > 0


@pytest.mark.parametrize("smiles", ["[He]", "[H][H]", "[Na+]", "F[P-](F)(F)(F)(F)F", "CC1=C(C)B(O)O1"])
def test_values_are_finite_or_missing(smiles):
    values = np.array(list(described(embed_smiles(smiles)).labels.values()))
    assert not np.isinf(values).any()
    assert np.isfinite(values).mean() > 0.5


def test_workers_give_the_same_in_the_same_order():
    entries = [Entry(s, structure=embed_smiles(s)) for s in ("CO", "CCO", "c1ccccc1")]
    entries.insert(1, Entry("bad", error=InputError("bad row")))
    here, there = (list(with_descriptors(entries, processes)) for processes in (0, 1))
    assert [entry.name for entry in here] == [entry.name for entry in there] == ["CO", "bad", "CCO", "c1ccccc1"]
    for one, other in zip(here, there, strict=True):
        if one.structure is None:
            assert str(one.error) == str(other.error) == "bad row"
        else:
            np.testing.assert_equal(dict(one.structure.labels), dict(other.structure.labels))
