"""Descriptors as inputs of a model: the same numbers in training, evaluation and prediction."""

import json
from dataclasses import replace

import numpy as np
import pytest

from molformer.data.conformers import embed_smiles
from molformer.data.descriptor_table import chosen, descriptor_table
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, ModelError
from molformer.inference.checks import check_model
from molformer.inference.predictor import Predictor
from molformer.models import PropertyModel
from molformer.training.config import TrainingConfig
from molformer.training.evaluation import evaluate_model
from molformer.training.run import train
from tests.helpers import moved, small_config
from tests.training.test_run import training

SMILES = [f"{'C' * length}{end}" for length in range(1, 7) for end in ("O", "N", "C(=O)O", "F")]
CONFIG = small_config(num_layers=1, channels=4, molecular_graph=True, hydrogens="implicit")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    members = [embed_smiles(smiles) for smiles in SMILES]
    members = [each.annotated(labels={"y": 1.0 * each.smiles.count("O") + len(each)}) for each in members]
    return str(write_store(tmp_path_factory.mktemp("data") / "table", members, [Label("y", "", "intensive")]).path)


def settings(table, folder, **kwargs):
    return training(table, folder, **{"targets": ["y"], "descriptors": "both", "epochs": 2, **kwargs})


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    return train(CONFIG, settings(table, tmp_path_factory.mktemp("runs") / "run"))


def test_evaluation_and_prediction_give_the_errors_that_the_run_reported(run, table):
    split = str(run.folder / "split.json")
    again = evaluate_model(run.folder, table, split_file=split)
    assert again.errors[0].error == pytest.approx(run.errors[0].error, rel=1e-6)
    rows = [StructureStore(table)[int(index)] for index in again.indices]
    for inputs in (rows, [row.smiles for row in rows]):
        found = [row.values["y"].value for row in Predictor.load(run.model).predict(inputs, processes=0)]
        assert np.allclose(found, again.predicted.values["y"][0], atol=1e-4)


def test_statistics_are_those_of_the_training_part(run, table):
    model = PropertyModel.load(run.model)
    assert model.descriptor_set == chosen("both")
    place = model.descriptor_set.names.index("rdkit.MolWt")
    values = descriptor_table(StructureStore(table), model.descriptor_set)
    train_part = np.array(json.loads((run.folder / "split.json").read_text())["train"])
    assert model.descriptors.centre[place].item() == pytest.approx(np.median(values[train_part, place]))
    bits = slice(len(model.descriptor_set.names), None)
    assert np.array_equal(model.descriptors.spread[bits].numpy(), (values[train_part, bits] > 0).any(0))


def test_a_structure_without_smiles_is_answered_and_outside_the_domain(run):
    known = embed_smiles("CCO")
    row = Predictor.load(run.model).predict([known.annotated(smiles="")])[0]
    assert np.isfinite(row.values["y"].value)
    assert row.status == "out_of_domain"
    assert "it has no SMILES, of which the model takes descriptors" in row.message
    assert "SMILES" not in Predictor.load(run.model).predict([known])[0].message


def test_contributions_add_up_and_checks_pass(run):
    model = moved(PropertyModel.load(run.model)).double()
    predictor = Predictor(model)
    row = predictor.predict("CCO")[0]
    assert predictor.contributions("CCO")["y"].sum() == pytest.approx(row.values["y"].value, rel=1e-6)
    assert all(check.passed for check in check_model(model))


def test_an_ensemble_takes_the_same_descriptors(run, table, tmp_path):
    other = train(CONFIG, settings(table, tmp_path / "run", descriptors="none", epochs=1))
    with pytest.raises(ModelError, match="must all take the same descriptors"):
        Predictor([PropertyModel.load(model) for model in (run.model, other.model)])
    tuned = settings(table, tmp_path / "tuned", descriptors="ecfp", epochs=1, initial=str(other.model))
    assert PropertyModel.load(train(CONFIG, tuned).model).descriptor_set == chosen("ecfp")


def test_a_run_is_resumed(run, table):
    again = train(CONFIG, replace(settings(table, run.folder), epochs=3), resume=True)
    assert again.epochs == 3


def test_the_calculator_of_ase_refuses(run):
    with pytest.raises(ConfigError, match="the model takes descriptors, and ASE has no bonds"):
        Predictor.load(run.model).calculator()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"descriptors": "ecfp4"}, "descriptors 'ecfp4' is not one of none, rdkit, ecfp, both"),
        ({"descriptors": "ecfp", "points": 8}, "descriptors: ecfp is not for point clouds or cuda_graphs"),
        ({"descriptors": "rdkit", "cuda_graphs": True}, "descriptors: rdkit is not for point clouds or cuda_graphs"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TrainingConfig(data="x", targets=["y"], **values)
    assert "\n" not in str(caught.value)


def test_a_store_without_smiles_trains(tmp_path, store):
    result = train(small_config(num_layers=1), training(store, tmp_path / "run", targets=["gap"], descriptors="rdkit"))
    values = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    assert np.isfinite(Predictor.load(result.model).predict([values])[0].values["gap"].value)
