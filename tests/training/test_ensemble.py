import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from lightning import Callback

import molformer
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError, ModelError
from molformer.models import PropertyModel
from molformer.training.arguments import read_run
from molformer.training.evaluation import evaluate_model
from molformer.training.monitor import read_metrics
from molformer.training.run import train
from tests.helpers import random_structure, small_config
from tests.training.test_run import training

SETTINGS = {"epochs": 3, "targets": ["gap"], "ensemble": 3}


@pytest.fixture(scope="module")
def ensemble(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ensemble"
    return train(small_config(num_layers=1), training(store, folder, **SETTINGS))


def weights(folder):
    return [(path / "model.safetensors").read_bytes() for path in sorted(folder.glob("member-*"))]


def test_an_ensemble_is_one_model_of_different_members_of_one_split(ensemble, store):
    assert len(set(weights(ensemble.model))) == 3
    splits = {(path / "split.json").read_text() for path in [ensemble.folder, *ensemble.folder.glob("member-*")]}
    assert len(splits) == 1
    for source in (ensemble.folder, ensemble.model):
        predictor = molformer.load(source)
        assert len(predictor.models) == 3
    test = json.loads(splits.pop())["test"]
    whole = evaluate_model(ensemble.folder, store, split_file=str(ensemble.folder / "split.json"))
    assert whole.indices.tolist() == test
    single = [
        evaluate_model(ensemble.model / f"member-{number}", store, split_file=str(ensemble.folder / "split.json"))
        for number in (1, 2, 3)
    ]
    mean = np.mean([each.predicted.values["gap"][0] for each in single], axis=0)
    assert np.allclose(whole.predicted.values["gap"][0], mean, atol=1e-6)
    assert whole.errors[0].error == pytest.approx(ensemble.errors[0].error, abs=1e-6)
    assert whole.errors[0].error <= max(each.errors[0].error for each in single)
    card = (ensemble.model / "README.md").read_text()
    assert "an ensemble of 3 such models" in card
    assert f'molformer.load("{ensemble.model.as_posix()}")' in card
    assert ensemble.epochs == 9
    assert (ensemble.folder / "test_predictions.csv").is_file()


def test_the_spread_of_the_members_is_the_uncertainty(ensemble):
    row = molformer.load(ensemble.folder).predict("CO")[0]
    single = [float(molformer.load(ensemble.model / f"member-{n}").predict("CO")[0]["gap"]) for n in (1, 2, 3)]
    assert float(row["gap"]) == pytest.approx(np.mean(single), abs=1e-6)
    assert row["gap"].ensemble_std == pytest.approx(np.std(single, ddof=1), rel=1e-3)


class Stop(Callback):
    """Interrupts the second member in its second epoch."""

    def __init__(self):
        self.fits = 0

    def on_train_start(self, trainer, pl_module):
        self.fits += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.fits == 2 and trainer.current_epoch == 1:
            raise ZeroDivisionError


def test_resumption_goes_on_in_the_right_member(ensemble, store, tmp_path, caplog):
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        train(small_config(num_layers=1), training(store, folder, **SETTINGS), Stop())
    assert {path.name for path in folder.glob("member-*")} == {"member-1", "member-2"}
    with pytest.raises(ModelError):
        molformer.load(folder)
    resumed = train(*read_run(str(folder)), resume=True)
    assert resumed.epochs == 9
    assert weights(resumed.model) == weights(ensemble.model)
    assert [row.error for row in resumed.errors] == [row.error for row in ensemble.errors]
    again = train(*read_run(str(folder)), resume=True)  # of a run that is complete
    assert weights(again.model) == weights(ensemble.model)


class Fail(Callback):
    def on_train_start(self, trainer, pl_module):
        raise ZeroDivisionError


def test_an_ensemble_that_ends_before_its_first_epoch_leaves_nothing(store, tmp_path):
    with pytest.raises(ZeroDivisionError):
        train(small_config(num_layers=1), training(store, tmp_path / "run", **SETTINGS), Fail())
    assert not (tmp_path / "run").exists()
    settings = training(store, tmp_path / "run", **SETTINGS | {"targets": ["energy", "forces"], "compile": True})
    with pytest.raises(ConfigError, match="compile is not for conservative forces"):
        train(small_config(num_layers=1), settings)
    assert not (tmp_path / "run").exists()


def test_an_ensemble_of_several_devices_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="trained on one device"):
        training(store, tmp_path / "run", ensemble=2, devices=2)


def test_a_run_that_stopped_early_is_continued_only_with_more_patience(store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=30, patience=1, learning_rate=0.3)
    stopped = train(small_config(num_layers=1), settings)
    assert stopped.epochs < 30
    before = (stopped.model / "model.safetensors").read_bytes()
    again = train(*read_run(str(stopped.folder)), resume=True)
    assert again.epochs == stopped.epochs
    assert (again.model / "model.safetensors").read_bytes() == before
    assert train(*read_run(str(stopped.folder), ["--patience", "4"]), resume=True).epochs >= stopped.epochs + 3


def test_the_best_epoch_is_that_of_the_averaged_weights(store, tmp_path):
    """Of a validation part of 15 molecules, with rates at which single epochs differ."""
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=8, ema_decay=0.9, learning_rate=0.02)
    result = train(small_config(num_layers=1), replace(settings, split=[0.5, 0.25, 0.25]))
    losses = [row["val/loss"] for row in read_metrics(result.folder / "metrics.csv")]
    model = PropertyModel.load(result.model)
    found = evaluate_model(result.model, store, split_file=str(result.folder / "split.json"), part="val").errors[0]
    scale = float(model.scale(model.targets[0]))
    assert found.error / scale == pytest.approx(min(losses), rel=1e-4)
    assert len(set(losses)) == 8


def test_a_shipped_ensemble_is_found_by_its_run_folder(ensemble, tmp_path):
    shutil.copytree(ensemble.model, tmp_path / "copy" / "model")
    assert len(molformer.load(tmp_path / "copy").models) == 3


def test_members_on_point_clouds_have_the_same_split(tmp_path):
    members = [random_structure(12, seed=seed, labels={"class": np.float64(seed % 2)}) for seed in range(40)]
    clouds = write_store(tmp_path / "clouds", members, [Label("class", "", "category", classes=("a", "b"))])
    settings = training(str(clouds.path), tmp_path / "run", targets=["class"], epochs=1, ensemble=2, points=8)
    folder = train(small_config(num_layers=1), settings).folder
    splits = {(path / "split.json").read_text() for path in [folder, *folder.glob("member-*")]}
    assert len(splits) == 1
