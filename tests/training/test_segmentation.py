"""Classes of points: trained, measured and predicted, in any pose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.sampling import normalise
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.errors import InputError
from molformer.inference import Predictor
from molformer.inference.table import Layout
from molformer.models.equivariance import equivariance_error
from molformer.so3 import random_rotation
from molformer.training.run import train
from molformer.training.target_errors import Predicted, evaluate
from tests.helpers import random_graph, small_config, small_model
from tests.training.test_run import training

ROD_OR_BALL = Label("part", "", "atom_category", ("rod", "ball"))
PART = Label("part", "", "atom_category", ("a", "b", "c"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Rods and balls in any pose: what lies along a line, and what lies about a centre."""
    members = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        rod, ball, shift = np.outer(random.uniform(-1, 1, 16), unit(random)), random.normal(size=(16, 3)), unit(random)
        part = np.repeat([0, 1], 16)
        pos = np.concatenate([rod + 1.5 * shift, 0.3 * ball - shift])
        members.append(Structure(np.zeros(32, dtype=int), pos, labels={"part": part}))
    return write_store(tmp_path_factory.mktemp("data") / "shapes", members, [ROD_OR_BALL])


def unit(random):
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)


def test_segmentation_is_learned_and_invariant_to_rotations(shapes, tmp_path):
    settings = training(
        str(shapes.path), tmp_path / "run", targets=["part"], points=30, split=[0.6, 0.2, 0.2], batch_size=8,
        epochs=30, learning_rate=0.01,
    )  # fmt: skip
    result = train(small_config(lmax=1, num_layers=1, cutoff=0.6, group="E(3)"), settings)
    (errors,) = result.errors
    assert errors.count == 8 * 30
    assert errors.error < 0.1
    assert errors.iou > 0.8
    assert "mean IoU" in (result.model / "README.md").read_text()

    predictor = Predictor.load(result.folder)
    cloud = replace(shapes[0], pos=normalise(shapes[0].pos), labels={})
    rotation = random_rotation(torch.Generator().manual_seed(0)).numpy()
    straight, turned = predictor.predict([cloud, replace(cloud, pos=cloud.pos @ rotation.T)])
    value = straight["part"].value
    assert value.shape == (32, 2)
    assert np.allclose(value.sum(1), 1)
    assert np.allclose(value, turned["part"].value, atol=1e-4)
    (cell,) = Layout((errors.target,)).cells(straight)[4:]
    assert cell == value.argmax(1).tolist()


def test_errors_are_those_of_points_and_intervals_those_of_objects():
    truth = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    answer = np.array([0, 1, 1, 1, 2, 2, 2, 0])
    predicted = Predicted({"part": (np.eye(3)[answer], truth.astype(float))}, np.array([4, 4]))
    (row,) = evaluate(predicted, [PART])
    assert row.count == 8
    assert row.error == pytest.approx(2 / 8)
    assert row.iou == pytest.approx((1 / 3 + 2 / 3 + 3 / 4) / 3)
    assert row.interval[0] == pytest.approx(0.25)  # each object has one wrong answer of four
    assert row.interval[1] == pytest.approx(0.25)


def test_logits_of_points_are_invariant():
    assert equivariance_error(small_model([PART]), random_graph(), torch.float64)["part"] < 1e-9


def test_classes_of_points_need_names():
    with pytest.raises(InputError, match="kind 'atom_category' needs the names of its classes"):
        Label("part", "", "atom_category")
