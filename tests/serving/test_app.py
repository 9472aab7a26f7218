"""What the server answers."""

import numpy as np
import pytest
import torch

from molformer.data.structure import Label
from molformer.inference.predictor import Predictor
from molformer.models import Domain, PropertyModel
from molformer.serving.service import Service
from tests.helpers import moved, small_config
from tests.serving.conftest import TARGETS, WATER, listening

MOL = """water
     RDKit          3D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0
    0.9600    0.0000    0.0000 H   0  0
   -0.2400    0.9300    0.0000 H   0  0
  1  2  1  0
  1  3  1  0
M  END
"""


def predict(client, *molecules, **options):
    answer = client.post("/predict", json={"molecules": molecules, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def test_a_row_for_every_molecule_in_order(client, predictor):
    asked = ["CCO", "C1CC", WATER, "CBr", "", MOL, "[Xx]", "O.O"]
    rows = predict(client, *asked)
    status = [row["status"] for row in rows]
    bad, unseen, failed = "invalid_input", "unsupported_element", "embedding_failed"
    assert status == ["ok", bad, "ok", unseen, bad, "ok", bad, failed]
    assert [row["name"] for row in rows][:4] == ["CCO", "C1CC", "H2O", "CBr"]
    assert all(bool(row["message"]) != (row["status"] == "ok") for row in rows)
    assert all(bool(row["values"]) == (row["status"] == "ok") for row in rows)
    expected = predictor.predict("CCO")[0]
    for target in TARGETS:
        value = rows[0]["values"][target.name]
        assert value["unit"] == target.unit
        np.testing.assert_allclose(value["value"], expected[target.name].value, rtol=1e-5, atol=1e-6)


def test_one_geometry_given_in_two_ways_gives_one_answer(client):
    first, second = predict(client, WATER, MOL)
    for target in TARGETS:
        values = [np.array(row["values"][target.name]["value"]) for row in (first, second)]
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)


def test_targets_units_conformers_and_geometries(client):
    row = predict(client, "CCO", targets=["gap"], unit="kcal/mol", conformers=3, geometry=True)[0]
    assert list(row["values"]) == ["gap"]
    plain = predict(client, "CCO", targets=["gap"], conformers=3)[0]
    assert row["values"]["gap"]["unit"] == "kcal/mol"
    assert row["values"]["gap"]["value"] == pytest.approx(23.0605 * plain["values"]["gap"]["value"], rel=1e-4)
    assert row["values"]["gap"]["std"] > 0
    assert row["geometry"]["symbols"] == ["C", "C", "O", *["H"] * 6]
    assert np.shape(row["geometry"]["positions"]) == (9, 3)
    assert plain["geometry"] is None


def test_a_file(client, tmp_path):
    two = WATER + WATER.replace("0.96", "1.00")
    answer = client.post("/predict/file", files={"file": ("../../etc/two.xyz", two)}, data={"targets": "gap"})
    rows = answer.json()["rows"]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert [row["name"] for row in rows] == ["two.xyz", "two.xyz, frame 2"]
    alone = predict(client, WATER, targets=["gap"])[0]["values"]["gap"]["value"]
    assert rows[0]["values"]["gap"]["value"] == pytest.approx(alone, rel=1e-5)
    table = "smiles,name\nCCO,ethanol\nC1CC,broken\n"
    rows = client.post("/predict/file", files={"file": ("mols.CSV", table)}).json()["rows"]
    assert [row["status"] for row in rows] == ["ok", "invalid_input"]
    assert "mols.CSV, line 3: " in rows[1]["message"]


def test_files_that_cannot_be_read(client):
    def detail(name, content=b"x"):
        answer = client.post("/predict/file", files={"file": (name, content)})
        return answer.status_code, answer.json()

    status, answer = detail("molecules.exe")
    assert status == 400
    assert "'.exe' cannot be read here" in answer["detail"]
    assert detail("points.h5")[0] == 400  # may refer to other files
    status, answer = detail("broken.xyz")
    assert status == 200
    assert answer["rows"][0]["status"] == "invalid_input"
    assert answer["rows"][0]["message"].startswith("'broken.xyz' is not a complete XYZ file")


@pytest.mark.parametrize("path", ["/etc/hostname", "tests/conftest.py", "data/examples/paracetamol.xyz", "file.sdf"])
def test_a_path_is_never_opened(client, path):
    row = predict(client, path)[0]
    assert row["status"] == "invalid_input"
    assert "is not a SMILES" in row["message"]
    uploaded = client.post("/predict/file", files={"file": ("list.smi", path)}).json()["rows"][0]
    assert uploaded["status"] == "invalid_input"


def test_questions_that_cannot_be_answered(client):
    def refused(status, **question):
        answer = client.post("/predict", json={"molecules": ["C"], **question})
        assert answer.status_code == status, answer.text
        return answer.json()["detail"]

    assert "there is no target 'nope'" in refused(400, targets=["nope"])
    assert "'Å' measures length" in refused(400, unit="Å")
    headers = {"content-type": "application/json"}
    half = client.post("/predict", content=b'{"molecules": [], "unit": {"\\ud800": "eV"}}', headers=headers)
    assert "there is no target '?'" in half.json()["detail"]
    assert refused(422, conformers=0).startswith("body.conformers: ")
    assert refused(422, molecules="C").startswith("body.molecules: ")
    assert refused(422, unknown=1).startswith("body.unknown: ")


def test_contributions_and_attention(client, predictor):
    found = client.post("/explain", json={"molecule": WATER}).json()
    assert found["units"] == {"gap": "eV", "energy": "eV", "charges": "e"}
    assert found["geometry"]["symbols"] == ["O", "H", "H"]
    assert len(found["attention"]) == 3
    value = predict(client, WATER)[0]["values"]
    assert found["contributions"]["charges"] == pytest.approx(value["charges"]["value"], rel=1e-4)
    assert sum(found["contributions"]["energy"]) == pytest.approx(value["energy"]["value"], rel=1e-4)
    refused = client.post("/explain", json={"molecule": "CBr"})
    assert refused.status_code == 400
    assert "Br" in refused.json()["detail"]


def test_models_health_and_metrics(client):
    model = client.get("/models").json()[0]
    assert model["name"] == "small"
    assert [target["name"] for target in model["targets"]] == [target.name for target in TARGETS]
    assert model["elements"] == ["H", "C", "N", "O"]
    assert client.get("/health").json()["status"] == "ok"
    before = client.get("/metrics").text
    predict(client, "C", "nonsense")
    after = client.get("/metrics")
    assert after.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in ('molformer_molecules_total{status="invalid_input"}', "molformer_batch_molecules_count"):
        assert _metric(after.text, line) > _metric(before, line)
    assert "molformer_waiting_molecules 0.0" in after.text


def test_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/docs", "/page/page.js", "/swagger/swagger-ui-bundle.js"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for page in ("/", "/docs"):
        assert "http" not in client.get(page).text
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/%2e%2e/app.py").status_code == 404


def _metric(text, name):
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


def test_a_geometry_is_refined_where_the_model_can():
    torch.manual_seed(0)
    targets = [Label("gap", "eV", "intensive"), Label("displacement", "Å", "atom_vector")]
    domain = Domain((1, 6, 7, 8), 20, ("etkdg+mmff", "given"), geometry="refined")
    refining = Predictor(moved(PropertyModel(small_config(num_layers=1), targets, domain=domain)))
    with listening(Service(refining, "refining", processes=1)) as client:
        default, plain = (predict(client, "CCO", **options)[0] for options in ({}, {"method": "etkdg"}))
    expected = [float(refining.predict("CCO", geometry=geometry)["gap"]) for geometry in ("refined", "etkdg")]
    found = [row["values"]["gap"]["value"] for row in (default, plain)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert abs(found[0] - found[1]) > 1e-4


def test_a_model_that_cannot_refine_says_so(client):
    answer = client.post("/predict", json={"molecules": ["CCO"], "method": "refined"})
    assert answer.status_code == 400
    assert "choose geometry etkdg" in answer.json()["detail"]
