"""Targets of every kind are trained, tested and predicted."""

import csv

import numpy as np
import pytest

from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError
from molformer.inference import Predictor
from molformer.inference.table import Layout
from molformer.inference.writers import open_writer
from molformer.training.run import train
from tests.helpers import random_structure, small_config
from tests.training.test_run import training

KINDS = [
    Label("active", "", "binary"),
    Label("colour", "", "category", ("red", "green", "blue")),
    Label("alpha", "a0^3", "tensor"),
    Label("shift", "", "atom"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    members = []
    for seed in range(60):
        bare = random_structure(5, seed=seed)
        arms = bare.pos - bare.pos.mean(0)
        labels = {
            "active": np.nan if seed % 9 == 0 else float((bare.numbers == 8).any()),
            "colour": min(2, int((bare.numbers == 6).sum())),
            "alpha": arms.T @ arms,
            "shift": 2.0 * bare.numbers,
        }
        members.append(random_structure(5, seed=seed, labels=labels))
    return str(write_store(tmp_path_factory.mktemp("data") / "kinds", members, KINDS).path)


def test_classes_tensors_and_atoms(store, tmp_path):
    targets = [label.name for label in KINDS]
    settings = training(store, tmp_path / "run", targets=targets, epochs=30, learning_rate=0.01)
    result = train(small_config(num_layers=1), settings)
    errors = {row.target.name: row for row in result.errors}
    assert errors["active"].error <= errors["active"].error_mean
    assert 0 <= errors["active"].roc_auc <= 1 or np.isnan(errors["active"].roc_auc)
    assert errors["colour"].error < errors["colour"].error_mean
    assert np.isnan(errors["colour"].iou)
    assert errors["shift"].error < errors["shift"].error_mean

    predictor = Predictor.load(result.folder)
    rows = predictor.predict([random_structure(5, seed=seed) for seed in (100, 101)])
    assert 0 < float(rows[0]["active"]) < 1
    assert rows[0]["colour"].value.shape == (3,)
    assert rows[0]["colour"].value.sum() == pytest.approx(1)
    assert rows[0]["alpha"].value.shape == (3, 3)
    with open_writer(tmp_path / "out.csv", Layout.of(rows, predictor.model.targets)) as file:
        for row in rows:
            file.write(row)
    with open(tmp_path / "out.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["colour"] in ("red", "green", "blue")
    assert float(row["p(red)"]) + float(row["p(green)"]) + float(row["p(blue)"]) == pytest.approx(1, abs=1e-5)
    assert float(row["alpha_xy (a0^3)"]) == pytest.approx(float(row["alpha_yx (a0^3)"]))
    assert len(row["shift"].split()) == 5


def test_a_tensor_needs_degree_two(store, tmp_path):
    with pytest.raises(ConfigError, match="'alpha' of kind 'tensor' needs lmax of at least 2"):
        train(small_config(lmax=1), training(store, tmp_path / "run", targets=["alpha"]))


def test_point_clouds_are_classified_in_any_pose(tmp_path):
    """Rods and discs, each turned at random: told apart without any turning in training."""
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(0)
    members = []
    for row in range(120):
        kind = row % 2
        spread = np.array([1.0, 1.0, 0.05]) if kind else np.array([1.0, 0.05, 0.05])
        pos = (random.normal(size=(60, 3)) * spread) @ Rotation.random(rng=random).as_matrix().T
        members.append(Structure(np.zeros(60), pos, labels={"class": kind}))
    label = Label("class", "", "category", ("rod", "disc"))
    path = str(write_store(tmp_path / "shapes", members, [label]).path)
    settings = training(
        path, tmp_path / "run", targets=["class"], points=40, jitter=0.01, epochs=12, learning_rate=0.01
    )
    result = train(small_config(num_layers=1, lmax=1, cutoff=0.6), settings)
    assert result.errors[0].error_mean > 0.3
    assert result.errors[0].error < 0.1
    with pytest.raises(ConfigError, match="has one target"):
        training(path, tmp_path / "run", targets=["class", "other"], points=40)
