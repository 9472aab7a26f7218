"""A trained model comes with intervals, their measured coverage, and what it was trained on."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.models import PropertyModel
from molformer.training.config import TrainingConfig
from molformer.training.run import train
from molformer.uncertainty import fit
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.fit import calibrate_run
from tests.helpers import small_config


@pytest.fixture(scope="module")
def run(ions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = TrainingConfig(ions, targets=["size"], run=str(folder), epochs=1, wandb="off", device="cpu")
    return train(small_config(num_layers=1), settings)


def test_a_run_leaves_a_calibration_of_its_best_model(run, ions):
    data = MoleculeDataModule(ions, ["size"])
    model = PropertyModel.load(run.model)
    found = Calibration.load(run.model)
    errors = []
    for graph in data.val_dataloader():
        errors.append((model(graph)["size"] - graph.labels["size"]).abs().detach().numpy())
    errors = np.sort(np.concatenate(errors))
    assert len(errors) == 20
    assert found.half_widths["size"] == pytest.approx(errors[18], rel=1e-5)  # ⌈21 · 0.9⌉
    assert found.charges == (0, 1)
    assert found.spins == (1, 2)
    assert found.geometries == ("given",)
    assert [len(scores) for scores in found.difficulty.scores] == [20]
    assert found.difficulty.targets == ()  # too few molecules for half-widths that vary


def test_the_card_states_the_empirical_coverage(run):
    width = Calibration.load(run.model).half_widths["size"]
    with open(run.folder / "test_predictions.csv") as file:
        rows = list(csv.DictReader(file))
    inside = [abs(float(row["size predicted [eV]"]) - float(row["size [eV]"])) <= width for row in rows]
    card = (run.model / "README.md").read_text()
    assert f"| size | {100 * np.mean(inside):.1f} ±{width:.3g} | {100 * np.mean(inside):.1f} ±{width:.3g} |" in card
    assert "| target | all | given | " in card


def test_the_cost_is_bounded(run, ions, monkeypatch):
    monkeypatch.setattr(fit, "POOL", 30)
    monkeypatch.setattr(fit, "MOST", 15)
    data = MoleculeDataModule(ions, ["size"])
    looked_at, loader = [], data.loader
    monkeypatch.setattr(data, "loader", lambda indices: looked_at.append(indices) or loader(indices))
    found = calibrate_run(PropertyModel.load(run.model), data)
    assert [len(indices) for indices in looked_at] == [30, 15]
    assert set(looked_at[0]) <= set(data.split.train)
    assert set(looked_at[1]) <= set(data.split.val)
    assert len(found.difficulty.scores[0]) == 15


def test_rare_formulas_are_looked_at_first(tmp_path):
    """One molecule in a hundred is unlike the others; nearly all of these few are in a sample of a tenth."""
    kinds = [[8, 1, 1] if number % 100 == 0 else [6, 1, 1] for number in range(2000)]
    pos = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
    structures = [Structure(kind, pos, labels={"size": 1.0}) for kind in kinds]
    store = write_store(tmp_path / "store", structures, [Label("size", "eV", "intensive")])
    data = MoleculeDataModule(store, ["size"])
    counts = fit._formula_counts(data)
    rare = np.array([kinds[index][0] == 8 for index in data.split.train])
    assert set(counts[rare]) == {rare.sum()}
    assert set(counts[~rare]) == {(~rare).sum()}
    sample = fit._sample(data.split.train, 160, np.random.default_rng(0), counts)
    assert len(set(sample)) == 160
    assert set(sample) <= set(data.split.train)
    assert np.isin(data.split.train[rare], sample).sum() > 0.9 * rare.sum()


def test_new_weights_lose_the_calibration_of_the_old_ones(run, ions, tmp_path, monkeypatch):
    def killed(*_):
        raise RuntimeError("the run is killed before it has measured the new weights")

    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    settings = TrainingConfig(ions, targets=["size"], run=str(copy), epochs=4, wandb="off", device="cpu")
    monkeypatch.setattr("molformer.training.run.calibrate_run", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(small_config(num_layers=1), settings, resume=True)
    new, old = (PropertyModel.load(folder).state_dict() for folder in (copy / "model", run.model))
    assert any((new[name] != old[name]).any() for name in new)
    assert Calibration.load(copy / "model") is None
