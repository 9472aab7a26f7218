"""From a table as it comes, with salts, repeated molecules, bounds and names of classes, to a model."""

import csv

import numpy as np
import pytest

from molformer.errors import ConfigError
from molformer.inference import Predictor
from molformer.inference.table import Layout
from molformer.models import PropertyModel
from molformer.training.arguments import PRETRAINING, read_configs, read_run
from molformer.training.classical import compare
from molformer.training.evaluation import evaluate_model
from molformer.training.run import data_module, train
from tests.helpers import small_config
from tests.training.test_run import training

RINGS = ("c1ccccc1", "C1CCCCC1", "c1ccncc1", "c1ccsc1", "C1CCNCC1", "c1ccoc1")
BOUND = 4.0


def rows():
    """Number of carbons in a chain, of which more than `BOUND` are not measured, and its parity as a class."""
    for number, ring in enumerate(RINGS):
        for length in range(1, 9):
            value = f">{BOUND}" if length > BOUND else f"{length:.1f}"
            outcome = ("inactive", "active", "toxic")[(length > 3) + (length > 6)]
            yield f"{'C' * length}{ring}{'.Cl' if number == 1 else ''};{value};{outcome}"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "mols.csv"
    lines = [
        "SMILES;length [Å];outcome;large",
        *(f"{row};{int(n % 8 > 3)}" for n, row in enumerate(rows())),
        "C1CC;2.0;;",
    ]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return str(path)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    values = {"targets": ["length", "outcome", "large"], "salts": "largest", "split_by": "auto", "baselines": True}
    settings = {"split": [0.6, 0.2, 0.2], "epochs": 2}
    return train(small_config(num_layers=1), training(table, folder, **values, **settings))


def test_bounds_are_learnt_from_and_counted_and_in_no_error(run, table):
    length, outcome, _ = run.errors
    assert (length.target.unit, length.count, length.censored) == ("Å", 8, 8)
    assert (outcome.count, outcome.censored, outcome.target.classes) == (16, 0, ("active", "inactive", "toxic"))
    assert PropertyModel.load(run.model).head("length").scale.item() < 1.3  # of the values below the bound alone
    with open(run.folder / "test_predictions.csv", newline="") as file:
        cells = {row["length [Å]"] for row in csv.DictReader(file)}
    assert ">4" in cells


def test_names_of_classes_come_back(run):
    with open(run.folder / "test_predictions.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["outcome"] for row in found} == {"inactive", "active", "toxic"}
    assert {row["outcome predicted"] for row in found} <= {"inactive", "active", "toxic"}
    predictor, outcome = Predictor.load(run.model), ("active", "inactive", "toxic")
    rows = predictor.predict(["Cc1ccccc1", "CCCCCCCCc1ccccc1"])
    layout = Layout.of(rows, predictor.model.targets)
    place = layout.headings.index("outcome")
    assert [layout.cells(row)[place] for row in rows] == [outcome[np.argmax(row["outcome"].value)] for row in rows]


def test_other_data_may_have_some_of_the_classes_and_no_others(run, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("smiles,outcome,length,large\nCCc1ccccc1,inactive,<3,\nCCCCCc1ccccc1,inactive,5,1\nCCC,maybe,2,0\n")
    result = evaluate_model(run.folder, str(path))
    assert {row.target.name: (row.count, row.censored) for row in result.errors} == {
        "length": (1, 1),
        "outcome": (2, 0),
        "large": (1, 0),
    }
    assert [row.count for row in evaluate_model(run.folder, str(path), censored="refuse").errors] == [1, 1, 1]


def test_what_became_of_the_rows_is_said_and_listed(run):
    log = (run.folder / "train.log").read_text()
    assert f"1 of 49 rows were dropped; each is listed with the reason in {run.folder / 'dropped.csv'}" in log
    assert "split: scaffold, 24 rows for training, 8 for validation, 16 for test" in log
    assert "split_by: scaffold" in (run.folder / "config.yaml").read_text()
    with open(run.folder / "dropped.csv", newline="") as file:
        assert [(row["row"], row["smiles"]) for row in csv.DictReader(file)] == [("49", "C1CC")]


def test_classical_methods_are_compared_on_the_same_split(run):
    assert [method.method.split(",")[0] for method in run.classical] == ["random forest", "gradient boosting"]
    for method in run.classical:
        assert [(row.target.name, row.count) for row in method.errors] == [
            ("length", 8),
            ("outcome", 16),
            ("large", 16),
        ]
        assert method.seconds > 0
    forest = run.classical[0]
    assert forest.errors[0].error < 1  # the number of equal fragments is the length
    assert forest.errors[2].roc_auc > 0.9
    assert "| length (random forest, ECFP4) |" in (run.model / "README.md").read_text()


def test_classical_methods_are_for_molecules_given_as_smiles(run, table, store, monkeypatch, caplog):
    _, settings = read_run(str(run.folder))
    data = data_module(settings, run.folder / "split.json")
    monkeypatch.setattr("molformer.training.classical.LARGEST", 39)
    assert compare(data, data.targets) == []
    monkeypatch.undo()
    other = data_module(training(store, "unused", targets=["gap"]))
    assert compare(other, other.targets) == []


def test_a_run_without_a_config_splits_as_the_data_are(tmp_path):
    assert read_configs(None, ["--data", "a", "--targets", '["y"]'])[1].split_by == "auto"
    assert read_configs(None, ["--data", "a"], PRETRAINING)[1].split_by == "random"
    (tmp_path / "config.yaml").write_text("data: a\ntargets: [y]\n")
    assert read_configs(str(tmp_path / "config.yaml"))[1].split_by == "random"


def test_salts_of_pretraining_are_their_largest_part_also_in_runs_before_the_key(tmp_path):
    assert read_configs(None, ["--data", "a"], PRETRAINING)[1].salts == "largest"
    text = "data: a\ntargets: [rdkit.TPSA]\nobjectives: {descriptors: 1.0}\n"
    (tmp_path / "config.yaml").write_text(text)
    assert read_run(str(tmp_path))[1].salts == "largest"
    (tmp_path / "config.yaml").write_text("data: a\ntargets: [y]\n")
    assert read_run(str(tmp_path))[1].salts == "refuse"
    with pytest.raises(ConfigError, match="salts"):
        read_configs(None, ["--data", "a", "--targets", '["y"]', "--salts", "some"])
