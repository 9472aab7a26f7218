"""Whichever way a molecule comes in, the number is the same; and no row is lost, however many fail."""

import csv

import numpy as np
import pytest
import torch
from ase import Atoms
from rdkit import Chem
from rdkit.Geometry import Point3D

import molformer
from molformer.data.conformers import embed_smiles
from molformer.data.structure import Label
from molformer.elements import SYMBOLS
from molformer.inference.predictor import Predictor
from molformer.models import Domain, PropertyModel
from molformer.serving.service import Service
from tests.helpers import moved, small_config
from tests.serving.conftest import listening
from tests.test_cli import molformer as command

ETHANOL = "CCO"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("doors") / "model"
    targets = [Label("energy", "eV", "extensive"), Label("gap", "eV", "intensive")]
    domain = Domain((1, 6, 7, 8), 20, ("etkdg+mmff", "given"))
    moved(PropertyModel(small_config(num_layers=1), targets, domain=domain)).save(path)
    return path


def test_every_door_gives_the_same_number(folder, tmp_path):
    structure = embed_smiles(ETHANOL)
    lines = [
        f"{SYMBOLS[number]} {' '.join(map(repr, place))}"
        for number, place in zip(structure.numbers, structure.pos.tolist(), strict=True)
    ]
    xyz = f"{len(lines)}\n\n" + "\n".join(lines) + "\n"
    (tmp_path / "ethanol.xyz").write_text(xyz)
    mol = Chem.AddHs(Chem.MolFromSmiles(ETHANOL))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for index, place in enumerate(structure.pos.tolist()):
        conformer.SetAtomPosition(index, Point3D(*place))
    mol.AddConformer(conformer)
    atoms = Atoms(structure.numbers, structure.pos)
    predictor = molformer.load(folder)

    found = {
        name: float(predictor.predict(given)["energy"])
        for name, given in {
            "SMILES": ETHANOL,
            "another spelling": "OCC",
            "structure": structure,
            "RDKit": mol,
            "ASE": atoms,
            "file": tmp_path / "ethanol.xyz",
        }.items()
    }
    found["pipeline"] = molformer.pipeline(model=predictor)(ETHANOL)[0]["energy (eV)"]
    atoms.calc = predictor.calculator()
    found["calculator"] = atoms.get_potential_energy()
    result = command("predict", ETHANOL, tmp_path / "ethanol.xyz", "--model", folder, "-o", tmp_path / "out.csv")
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "out.csv", newline="") as file:
        found |= {f"command, {row['input']}": float(row["energy (eV)"]) for row in csv.DictReader(file)}
    with listening(Service(predictor, "doors", processes=1)) as client:
        rows = client.post("/predict", json={"molecules": [ETHANOL, xyz, Chem.MolToMolBlock(mol)]}).json()["rows"]
        rows += client.post("/predict/file", files={"file": ("ethanol.xyz", xyz)}).json()["rows"]
    found |= {f"HTTP, {index}": row["values"]["energy"]["value"] for index, row in enumerate(rows)}
    assert len(found) == 14
    for name, value in found.items():
        tolerance = 1e-3 if name == "HTTP, 2" else 1e-5  # a MOL block has four decimals
        assert value == pytest.approx(found["SMILES"], abs=tolerance), name


def test_ten_thousand_good_and_bad_molecules_have_ten_thousand_rows_in_order(folder):
    good = ["C", "O", "N", "CO", "C=O"]
    bad = ["C1CC{}", "not a molecule {}", "[Xx{}]", "C(C({}", "c1ccc{}", ""]
    inputs = [good[index // 10 % 5] if index % 10 == 0 else bad[index % 6].format(index) for index in range(10_000)]
    rows = Predictor(PropertyModel.load(folder)).predict(inputs, processes=0)
    assert [row.name for row in rows] == inputs
    status = np.array([row.status for row in rows])
    assert (status[::10] == "ok").all()
    assert (np.delete(status, np.s_[::10]) != "ok").all()
    assert all(row.message for row in rows if row.status != "ok")
    values = np.array([float(row["gap"]) for row in rows[::10]]).reshape(-1, 5)
    assert np.ptp(values, axis=0).max() < 1e-4
    assert len(set(values[0].round(4))) == 5
