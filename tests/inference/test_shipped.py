"""The model that comes with the package: what it predicts is what it predicted when it was shipped."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import molformer
from molformer.inference.models import SHIPPED

ROOT = Path(__file__).parents[2]
EXPECTED = json.loads((ROOT / "tests" / "golden" / "qm9.json").read_text())
"""Predictions for geometries that are given, by `python -m tests.golden.make_qm9`."""


@pytest.fixture(scope="module")
def qm9():
    return molformer.load("qm9", device="cpu")


@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_a_given_geometry_has_the_stored_prediction(qm9, file):
    (row,) = qm9.predict(str(ROOT / file))
    for name, (value, unit) in EXPECTED[file].items():
        assert row[name].unit == unit
        assert row[name].value == pytest.approx(value, abs=2e-3 * max(1, abs(value) / 10)), name


def test_a_smiles_is_all_that_is_needed_and_no_network(qm9, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    (ethanol,) = qm9.predict("CCO")
    assert ethanol.status == "ok"
    assert -8 < ethanol["homo"].value < -6  # -6.9 eV with B3LYP
    assert ethanol["homo"].interval is not None
    assert ethanol["gap"].unit == "eV"


@pytest.mark.parametrize(
    ("smiles", "status"),
    [
        ("CSC", "unsupported_element"),
        ("C[NH3+]", "out_of_domain"),
        ("[CH3]", "out_of_domain"),
        ("C" * 30, "out_of_domain"),
        ("not a molecule", "invalid_input"),
    ],
)
def test_inputs_outside_the_domain_have_no_intervals(qm9, smiles, status):
    (row,) = qm9.predict(smiles)
    assert row.status == status
    assert all(value.interval is None for value in row.values.values())


def test_the_command_line_takes_it_where_no_model_is_named():
    command = [sys.executable, "-m", "molformer", "predict", "CCO", "--target", "homo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CCO" in done.stdout


def test_base_answers_for_elements_and_charges_that_qm9_does_not_know(tmp_path):
    smiles = ["CCO", "O=C(O)c1ccccc1Cl", "C[NH+](C)CCS(=O)(=O)c1ccc(F)cc1", "[O-]C(=O)c1ccccc1", "CC[Na]", "C[Te]C"]
    command = [sys.executable, "-m", "molformer", "predict", *smiles, "-o", str(tmp_path / "out.csv"), "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["model"] for row in rows[:4]] == ["qm9", "base", "base", "base"]
    assert [row["status"] for row in rows[:4]] == ["ok"] * 4
    assert [row["status"] for row in rows[4:]] == ["unsupported_element"] * 2
    homo = [float(row["gfn2_homo (eV)"]) for row in rows[1:4]]
    assert np.allclose(homo, [-11.17, -14.48, -4.82], atol=0.35)  # tblite's for the same geometries
    assert float(rows[1]["gfn2_homo_low (eV)"]) < homo[0] < float(rows[1]["gfn2_homo_high (eV)"])
    assert rows[1]["homo (eV)"] == ""


def test_base_gives_features_of_any_molecule():
    features = molformer.load("base", device="cpu").embed(["CCBr", "C[Si](C)(C)C", "CSC"])
    assert np.isfinite(features).all()
    assert features.shape[0] == 3


def test_its_card_has_metadata_that_the_hub_reads():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(SHIPPED / "qm9" / "README.md").data
    assert data.library_name == "molformer"
    assert "chemistry" in data.tags


def test_it_is_small_and_says_where_it_comes_from():
    folder = SHIPPED / "qm9"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    assert sum(path.stat().st_size for path in (SHIPPED / "base").iterdir()) < 12e6
    card = (folder / "README.md").read_text()
    for heading in ("## Errors by geometry", "## What was tried"):
        assert heading in card
