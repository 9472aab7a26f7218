"""One small molecule is predicted on a grid of its pairs: the same function as on a list of edges."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from molformer.data.graph import GraphBatch
from molformer.data.structure import Structure
from molformer.models import SE3Transformer, encoder
from molformer.nn.prepared import weights_kept
from tests.helpers import TOLERANCE, moved, parity, random_structure, rotation_and_matrix, small_config, turned


def network(dtype=torch.float64, **kwargs):
    return moved(SE3Transformer(small_config(**kwargs))).to(dtype).eval()


def on_list(model, graph):
    """With gradients there is no grid."""
    return model(graph).detach()


def on_grid(model, graph):
    """What a prediction gives; fails if it did not go over a grid."""
    grids, make = [], model.edges.grid
    model.edges.grid = lambda *arguments: grids.append(make(*arguments)) or grids[-1]
    try:
        with torch.inference_mode(), torch.no_grad(), weights_kept():
            features = model(graph)
    finally:
        del model.edges.grid
    assert [grid is not None for grid in grids] == [True]
    return features


def graph_of(structure, dtype=torch.float64):
    return GraphBatch.from_structures([structure], dtype)


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("message_channels", [0, 4])
@pytest.mark.parametrize("lmax", [0, 1, 3])
def test_the_grid_gives_what_the_list_gives(group, qk_norm, message_channels, lmax):
    model = network(group=group, qk_norm=qk_norm, message_channels=message_channels, lmax=lmax)
    for atoms, spread in ((2, 0.5), (12, 1.5), (20, 3.5)):  # of the last one most pairs are no edges
        graph = graph_of(random_structure(atoms, spread))
        assert torch.allclose(on_grid(model, graph), on_list(model, graph), atol=1e-10)


def test_single_precision_is_as_precise_as_on_the_list():
    exact, graph = network(qk_norm=True), graph_of(random_structure(15))
    expected = on_list(exact, graph)
    single = exact.float()
    assert (on_grid(single, graph_of(random_structure(15), torch.float32)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_turn_with_the_molecule(group, dtype):
    model, graph = network(dtype, group=group, qk_norm=True), graph_of(random_structure(9), dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    y = on_grid(model, graph)
    assert (on_grid(model, turned(graph, rotation, shift=5.0)) - matrix @ y).abs().max() < TOLERANCE[dtype]
    mirror_error = (on_grid(model, turned(graph, -torch.eye(3))) - parity(2, dtype) * y).abs().max()
    assert mirror_error < TOLERANCE[dtype] if group == "E(3)" else mirror_error > 1e-2


def test_atoms_in_one_place_and_atoms_on_their_own():
    model = network(qk_norm=True)
    pos = [[0, 0, 0], [0, 0, 0], [0, 1.1, 0], [0, -1.1, 0], [30, 0, 0]]
    graph = graph_of(Structure([6, 8, 1, 1, 2], np.array(pos, dtype=float)))
    assert torch.allclose(on_grid(model, graph), on_list(model, graph), atol=1e-10)


@pytest.mark.parametrize("pos", [[[0.0, 0, 0]], [[0.0, 0, 0], [9.0, 0, 0]], [[0.0, 0, 0], [0.0, 0, 0]]])
def test_without_any_edge_there_is_no_grid(pos):
    model, graph = network(), graph_of(Structure([6] * len(pos), pos))
    assert model.edges.grid(graph.numbers, graph.pos) is None
    with torch.no_grad():
        assert torch.allclose(model(graph), on_list(model, graph), atol=1e-12)


def test_weights_that_change_count_at_once():
    model, graph = network(qk_norm=True, message_channels=4), graph_of(random_structure(7))
    on_grid(model, graph)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.1)
        assert torch.allclose(on_grid(model, graph), on_list(model, graph), atol=1e-10)
    model.blocks[0].attention.output.weight = torch.nn.Parameter(torch.randn(3, 4, 8, dtype=torch.float64))
    assert torch.allclose(on_grid(model, graph), on_list(model, graph), atol=1e-10)


@pytest.mark.parametrize(
    "kwargs",
    [{"neighbours": 3}, {"convolution": "full"}, {"lmax": 4}, {"input_numbers": 1}],
    ids=lambda given: next(iter(given)),
)
def test_what_has_no_grid_goes_over_the_list(kwargs, monkeypatch):
    model = network(**kwargs)
    monkeypatch.setattr(model.edges, "grid", lambda *arguments: pytest.fail("there is a grid"))
    graph = graph_of(random_structure(6, features=np.ones((6, 1))))
    with torch.no_grad():
        assert torch.allclose(model(graph), on_list(model, graph), atol=1e-10)


def test_large_molecules_cells_given_edges_and_batches_go_over_the_list(monkeypatch):
    model = network()
    monkeypatch.setattr(model.edges, "grid", lambda *arguments: pytest.fail("there is a grid"))
    monkeypatch.setattr(encoder, "MOST_NODES", 8)
    ends = torch.tensor([0, 1])
    given = graph_of(random_structure(5))
    given.src, given.dst = ends, ends.flip(0)
    graphs = [
        graph_of(random_structure(9)),
        graph_of(random_structure(5, cell=20 * np.eye(3))),
        given,
        GraphBatch.from_structures([random_structure(5), random_structure(4)], torch.float64),
    ]
    for graph in graphs:
        with torch.no_grad():
            assert torch.allclose(model(graph), on_list(model, graph), atol=1e-10)


def test_gradients_can_be_had_after_a_prediction():
    """Tables that are made within a prediction serve gradients too, in a process that did nothing before."""
    program = """
import torch
from molformer.inference.forward import run
from molformer.models import PropertyModel
from molformer.data.graph import GraphBatch
from molformer.data.structure import Label
from tests.helpers import random_structure, small_config
for lmax in (2, 4):
    model, structure = PropertyModel(small_config(lmax=lmax), [Label("gap", "eV", "intensive")]), random_structure(5)
    predicted = run(model, [structure], model.targets)[0].values["gap"]
    graph = GraphBatch.from_structures([structure])
    graph.pos.requires_grad_()
    value = model(graph)["gap"].sum()
    value.backward()
    assert abs(float(value.detach()) - float(predicted)) < 1e-4 and graph.pos.grad.abs().max() > 0
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr == ""
