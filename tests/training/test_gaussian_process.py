import logging

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from molformer.data.conformers import embed_smiles
from molformer.data.descriptor_table import chosen
from molformer.data.splits import scaffold
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.inference.predictor import Predictor
from molformer.training import gaussian_process
from molformer.training.evaluation import evaluate_model
from molformer.training.gaussian_process import fit_gaussian_process
from molformer.training.run import data_module, train
from tests.helpers import small_config
from tests.training.test_run import training

RINGS = (
    "c1ccccc1",
    "C1CCCCC1",
    "c1ccncc1",
    "C1CCNC1",
    "c1ccoc1",
    "c1ccsc1",
    "C1CCOC1",
    "c1ccc2ccccc2c1",
    "C1CC1",
    "C1CCC1",
)
SMILES = [
    f"{'C' * length}{end}{ring}" for length in (0, 1, 2) for end in ("O", "N", "") for ring in (*RINGS, "CF", "Br")
]
CONFIG = small_config(num_layers=1, channels=4, molecular_graph=True, hydrogens="implicit")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    members = []
    for row, smiles in enumerate(SMILES):
        each = embed_smiles(smiles)
        value = each.smiles.upper().count("N") + 0.5 * each.smiles.upper().count("O")
        labels = {"y": value, "active": float(value > 0.7), "rare": value if row % 3 else np.nan}
        members.append(each.annotated(labels=labels, group=row))
    labels = [Label("y", "", "intensive"), Label("active", "", "binary"), Label("rare", "", "intensive")]
    return str(write_store(tmp_path_factory.mktemp("data") / "table", members, labels).path)


def settings(table, folder, **kwargs):
    options = {"targets": ["y", "active", "rare"], "descriptors": "both", "descriptor_readout": "gaussian_process"}
    return training(table, folder, **{**options, "epochs": 1, "split": [0.6, 0.2, 0.2], **kwargs})


def fitted(table, tmp_path, **kwargs):
    data = data_module(settings(table, tmp_path / "run", **kwargs), implicit=True)
    choice = chosen(kwargs.get("descriptors", "both"), "gaussian_process")
    return data, *fit_gaussian_process(choice, data, data.statistics(), seed=0)


@pytest.mark.parametrize("descriptors", ["rdkit", "ecfp", "both"])
def test_it_predicts_what_substructures_determine(table, tmp_path, descriptors):
    data, process, values = fitted(table, tmp_path, descriptors=descriptors)
    truth = data.store.column("y")[data.split.test]
    statistics = data.statistics()["y"]
    from molformer.data.statistics import baseline_values

    base = baseline_values(data.store, data.split.test, data.targets[0], statistics.references)
    found = base + statistics.scale * values[data.split.test, 0]
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.7 * np.sqrt(np.mean((base - truth) ** 2))
    logits, active = values[data.split.test, 1], data.store.column("active")[data.split.test] > 0
    assert logits[active].mean() > logits[~active].mean() + 1
    assert process.mix.sum().item() == pytest.approx(1.0)


def test_values_of_the_training_part_are_held_out(table, tmp_path):
    data, process, values = fitted(table, tmp_path)
    direct = process.values(torch.from_numpy(np.array(data.inputs)).float()).numpy()
    train, rest = data.split.train, np.concatenate([data.split.val, data.split.test])
    np.testing.assert_allclose(direct[rest], values[rest], atol=1e-5)
    assert np.abs(direct[train, 0] - values[train, 0]).max() > 0.05


def test_ridge_regression_with_folds_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3))
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1))
    values = rng.normal(size=40)
    values[::7] = np.nan
    folds = np.arange(40) % gaussian_process.FOLDS
    features = torch.linalg.cholesky(torch.from_numpy(kernel) + 1e-10 * torch.eye(40))
    found = gaussian_process._held_out(features, torch.from_numpy(values), torch.from_numpy(folds), 0.1)
    for fold in range(gaussian_process.FOLDS):
        rest, own = (folds != fold) & np.isfinite(values), folds == fold
        model = KernelRidge(alpha=0.1, kernel="precomputed").fit(kernel[np.ix_(rest, rest)], values[rest])
        np.testing.assert_allclose(found[own], model.predict(kernel[np.ix_(own, rest)]), atol=1e-6)


def test_a_subset_is_the_support_of_many_molecules(table, tmp_path, monkeypatch):
    whole = fitted(table, tmp_path)[2]
    monkeypatch.setattr(gaussian_process, "SUPPORT", 40)
    data, process, values = fitted(table, tmp_path)
    assert process.descriptors.support == 40
    assert np.corrcoef(whole[data.split.test, 0], values[data.split.test, 0])[0, 1] > 0.8


def test_folds_keep_scaffolds_together_where_the_split_does(table, tmp_path):
    rows = np.arange(len(SMILES))
    for method, together in (("scaffold", True), ("random", False)):
        data = data_module(settings(table, tmp_path / "run", split_by=method), implicit=True)
        train = rows[np.isin(rows, data.split.train)]
        folds = gaussian_process._folds(data, train, seed=0)
        names = np.array([scaffold(data.store[row].smiles) for row in train])
        spread = max(len(set(folds[names == name])) for name in set(names) - {""})
        assert (spread == 1) == together
        assert len(set(folds)) == gaussian_process.FOLDS


def test_a_run_predicts_as_it_evaluates_and_is_resumed(table, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run = train(CONFIG, settings(table, tmp_path / "run"))
    assert "Gaussian process" in caplog.text
    again = evaluate_model(run.folder, table, split_file=str(run.folder / "split.json"))
    assert again.errors[0].error == pytest.approx(run.errors[0].error, rel=1e-5)
    smiles = [SMILES[index] for index in again.indices]
    found = [row.values["y"].value for row in Predictor.load(run.model).predict(smiles, processes=0)]
    assert np.allclose(found, again.predicted.values["y"][0], atol=1e-4)
    assert train(CONFIG, settings(table, run.folder, epochs=2), resume=True).epochs == 2
    ensemble = train(CONFIG, settings(table, tmp_path / "several", ensemble=2))
    assert np.isfinite(Predictor.load(ensemble.folder).predict("CCN")[0].values["y"].value)
