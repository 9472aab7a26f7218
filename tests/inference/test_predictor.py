from dataclasses import replace

import numpy as np
import pytest
import torch

import molformer
from molformer.data.conformers import embed_smiles
from molformer.data.structure import Label
from molformer.errors import ConformerError, InputError, ModelError, UnsupportedElementError
from molformer.inference import Predictor
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, small_config

TARGETS = [Label("gap", "eV", "intensive"), Label("dipole", "D", "vector"), Label("charges", "e", "charges")]


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = moved(PropertyModel(small_config(), TARGETS, domain=Domain((1, 6, 7, 8), 20, ("given",))))
    model.save(tmp_path / "run" / "model")
    return str(tmp_path / "run" / "model")


def test_one_row_for_each_input_in_order_whatever_fails(folder, tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    inputs = ["CCO", "nonsense", tmp_path / "water.xyz", "CBr", "C1#CC1", "CCO"]
    rows = molformer.load(folder).predict(inputs)
    statuses = ["ok", "invalid_input", "ok", "unsupported_element", "embedding_failed", "ok"]
    assert [row.status for row in rows] == statuses
    assert all(bool(row.message) == (row.status != "ok") for row in rows)
    assert rows[0]["gap"].unit == "eV"
    assert rows[2]["charges"].value.shape == (3,)
    assert float(rows[0]["gap"]) == pytest.approx(float(rows[5]["gap"]), abs=1e-5)


def test_every_door_gives_the_same_number(folder, tmp_path):
    structure = embed_smiles("CCO")
    lines = [
        f"{molformer.elements.SYMBOLS[number]} {' '.join(map(repr, map(float, pos)))}"
        for number, pos in zip(structure.numbers, structure.pos, strict=True)
    ]
    (tmp_path / "ethanol.xyz").write_text(f"{len(lines)}\n\n" + "\n".join(lines) + "\n")
    (tmp_path / "ethanol.smi").write_text("OCC ethanol\n")
    predictor = molformer.load(folder)
    values = [
        float(row["gap"])
        for row in predictor.predict(["CCO", structure, tmp_path / "ethanol.xyz", str(tmp_path / "ethanol.smi")])
    ]
    assert np.ptp(values) < 1e-5


def test_objects_of_rdkit_and_ase_are_inputs_too(folder):
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    structure = embed_smiles("CCO")
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == structure.numbers.tolist()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for index, place in enumerate(structure.pos.tolist()):
        conformer.SetAtomPosition(index, Point3D(*place))
    mol.AddConformer(conformer)
    atoms = Atoms(structure.numbers, structure.pos)
    predictor = molformer.load(folder)
    rows = predictor.predict([mol, atoms]) + predictor.predict(mol) + predictor.predict(atoms)
    assert [row.status for row in rows] == ["ok"] * 4
    assert np.ptp([float(row["gap"]) for row in rows]) < 1e-4


def test_a_periodic_structure_is_not_taken_for_a_molecule(folder):
    alone = embed_smiles("O")
    crystal = replace(alone, cell=3.5 * np.eye(3))
    first, second = molformer.load(folder).predict([alone, crystal])
    assert abs(float(first["gap"]) - float(second["gap"])) > 1e-4


def test_batches_do_not_change_the_numbers(folder):
    smiles = ["C", "CC", "CCC", "CO", "N"]
    one_by_one = Predictor(PropertyModel.load(folder), batch_size=1).predict(smiles)
    together = Predictor(PropertyModel.load(folder), batch_size=5).predict(smiles)
    assert np.allclose([float(row["gap"]) for row in one_by_one], [float(row["gap"]) for row in together], atol=1e-5)


def test_turning_the_molecule_turns_the_vector(folder):
    structure = embed_smiles("CCO")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    first, second = molformer.load(folder).predict([structure, replace(structure, pos=structure.pos @ turn.T)])
    assert np.allclose(first["dipole"].value @ turn.T, second["dipole"].value, atol=1e-4)
    assert float(first["gap"]) == pytest.approx(float(second["gap"]), abs=1e-5)


def test_strict_raises_at_the_first_failure(folder):
    predictor = molformer.load(folder)
    with pytest.raises(InputError, match="'nonsense' is not a SMILES"):
        predictor.predict(["CCO", "nonsense"], strict=True)
    with pytest.raises(UnsupportedElementError, match="has not seen Br in training; it knows H, C, N, O"):
        predictor.predict("CBr", strict=True)
    with pytest.raises(ConformerError):
        predictor.predict("C1#CC1", strict=True)


def test_a_run_folder_is_as_good_as_its_model_folder(folder, tmp_path):
    assert molformer.load(str(tmp_path / "run")).predict("C")[0].status == "ok"


def test_a_missing_model_is_named():
    with pytest.raises(ModelError, match="there is no model folder at 'nothing'"):
        molformer.load("nothing")
