import csv

import numpy as np
import pytest

from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, InputError, ModelError, UnitError
from molformer.training.evaluation import evaluate_model
from molformer.training.run import train
from tests.helpers import random_structure, small_config
from tests.training.test_run import training


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(small_config(num_layers=1), training(store, folder, targets=["energy", "gap"], epochs=1))


def a_store(folder, unit="eV", kind="intensive", numbers=None):
    members = [random_structure(4, seed=seed, labels={"gap": 1000.0 * seed}) for seed in range(5)]
    if numbers:
        members.append(Structure(numbers, np.eye(3)[: len(numbers)], labels={"gap": 1.0}))
    return str(write_store(folder / "other", members, [Label("gap", unit, kind)]).path)


def test_the_test_part_of_a_run_has_the_errors_that_the_run_reported(run, store):
    result = evaluate_model(run.folder, store, split_file=str(run.folder / "split.json"))
    for row, reported in zip(result.errors, run.errors, strict=True):
        assert (row.count, row.target) == (reported.count, reported.target)
        assert row.error == pytest.approx(reported.error, rel=1e-6)
        assert row.interval == pytest.approx(reported.interval, rel=1e-6)


def test_the_intervals_of_the_model_are_measured_on_the_data(run, ions, tmp_path):
    assert evaluate_model(run.folder, a_store(tmp_path)).covered == {}  # too few validation molecules for an interval
    settings = training(ions, tmp_path / "run", targets=["size"], epochs=1)
    model = train(small_config(num_layers=1), settings).model
    found = evaluate_model(model, ions).covered["size"]
    assert found.count == 200
    assert 0.8 < found.share < 1


def test_other_units_are_converted(run, tmp_path):
    (tmp_path / "a").mkdir()
    ours = evaluate_model(run.folder, a_store(tmp_path / "a")).errors[0]
    milli = evaluate_model(run.folder, a_store(tmp_path, "meV")).errors[0]
    labels = 1000.0 * np.arange(5)
    assert ours.error == pytest.approx(np.abs(labels).mean(), rel=0.1)
    assert milli.error < 0.01 * ours.error


def test_predictions_and_plots_are_written(run, tmp_path):
    evaluate_model(run.folder, a_store(tmp_path), batch_size=2).write(tmp_path / "out")
    with open(tmp_path / "out" / "test_predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gap [eV]"]) for row in rows] == [0, 1000, 2000, 3000, 4000]
    assert (tmp_path / "out" / "plots" / "parity_gap.png").read_bytes().startswith(b"\x89PNG")


def test_structures_with_unseen_elements_are_left_out_and_said_to_be(run, tmp_path, caplog):
    result = evaluate_model(run.folder, a_store(tmp_path, numbers=[92, 1]))
    assert result.errors[0].count == 5
    assert "skipped 1 of 6 structures with elements outside the training set: U" in caplog.text
    only = [Structure([92], [[0, 0, 0]], labels={"gap": 1.0})]
    path = str(write_store(tmp_path / "only", only, [Label("gap", "eV", "intensive")]).path)
    with pytest.raises(InputError, match="every structure"):
        evaluate_model(run.folder, path)


def test_data_that_do_not_fit_are_refused(run, tmp_path):
    with pytest.raises(UnitError, match="cannot convert"):
        evaluate_model(run.folder, a_store(tmp_path, "D"))
    with pytest.raises(ConfigError, match="of kind 'binary' in the data and 'intensive' in the model"):
        evaluate_model(run.folder, a_store(tmp_path, unit="", kind="binary"))
    path = str(write_store(tmp_path / "none", [random_structure(3)], []).path)
    with pytest.raises(ConfigError, match=r"predicts energy, gap and .* holds no labels"):
        evaluate_model(run.folder, path)
    with pytest.raises(ModelError):
        evaluate_model(tmp_path / "nothing", path)
