import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.pointnet import PointNet, accuracies, rows, train, turned
from molformer.data.augmentation import CloudOptions
from molformer.data.cloud_datamodule import PointCloudDataModule
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.training.run import train as train_molformer
from tests.helpers import random_graph, small_config
from tests.training.test_run import training

CLASS = Label("class", "", "category", ("flat", "tall"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Discs and rods along one axis, which a network that has learnt them upright takes for each other when turned."""
    members = []
    for seed in range(80):
        shape = [1, 1, 0.2] if seed % 2 == 0 else [0.2, 0.2, 1]
        pos = np.random.default_rng(seed).normal(size=(40, 3)) * shape
        members.append(Structure(np.zeros(40, dtype=int), pos, labels={"class": seed % 2}))
    return write_store(tmp_path_factory.mktemp("data") / "clouds", members, [CLASS])


def test_a_pointnet_is_not_invariant_to_rotations(store):
    data = PointCloudDataModule(store, options=CloudOptions(32), split=[0.5, 0.1, 0.4], batch_size=8)
    upright, turned_at_random = accuracies(train(data, 8, augment=False, seed=0), data, "class")
    assert upright > 90
    assert turned_at_random < upright


def test_clouds_are_rotated_independently():
    graph = random_graph((5, 5))
    graph = replace(graph, pos=torch.cat([graph.pos[:5], graph.pos[:5]]))
    other = turned(graph, torch.Generator().manual_seed(0)).pos
    assert torch.allclose(torch.cdist(other[:5], other[:5]), torch.cdist(graph.pos[:5], graph.pos[:5]))
    assert not torch.allclose(other[:5], other[5:])


def test_the_order_of_points_does_not_matter():
    model, graph = PointNet(3).double().eval(), random_graph((6,))
    with torch.no_grad():
        assert torch.allclose(model(replace(graph, pos=graph.pos.flip(0))), model(graph))


def test_the_table_has_a_row_for_each_network(store, tmp_path):
    settings = training(str(store.path), tmp_path / "run", targets=["class"], points=24, batch_size=8, epochs=2)
    train_molformer(small_config(lmax=1, num_layers=1, cutoff=0.6), settings)
    table = list(rows(argparse.Namespace(store=str(store.path), run=str(tmp_path / "run"), epochs=1, points=0)))
    assert [name.split(",")[0] for name, *_ in table] == ["PointNet", "PointNet", "molformer"]
    upright, turned_at_random = table[2][3]
    assert upright == turned_at_random
