"""One small molecule is computed with NumPy: the same function as that of its encoder."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from molformer.graph import GraphBatch
from molformer.data.structure import Structure
from molformer.inference import small
from molformer.models import PaperTransformer, SE3Transformer
from molformer.nn.prepared import weights_kept
from tests.helpers import TOLERANCE, moved, parity, random_structure, rotation_and_matrix, small_config, turned


def network(dtype=torch.float64, **kwargs):
    return moved(SE3Transformer(small_config(**kwargs))).to(dtype).eval()


def of_encoder(model, graph):
    return model(graph).detach()


def of_numpy(model, graph):
    with torch.inference_mode(), torch.no_grad(), weights_kept():
        return small.features(model, graph)


def graph_of(structure, dtype=torch.float64):
    return GraphBatch.from_structures([structure], dtype)


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("message_channels", [0, 4])
@pytest.mark.parametrize("lmax", [0, 1, 3])
def test_features_are_those_of_the_encoder(group, qk_norm, message_channels, lmax):
    model = network(group=group, qk_norm=qk_norm, message_channels=message_channels, lmax=lmax)
    for atoms, spread in ((2, 0.5), (12, 1.5), (20, 3.5)):  # of the last one most pairs are no edges
        graph = graph_of(random_structure(atoms, spread))
        assert torch.allclose(of_numpy(model, graph), of_encoder(model, graph), atol=1e-10)


def test_single_precision_is_as_precise_as_that_of_the_encoder():
    exact, graph = network(qk_norm=True), graph_of(random_structure(15))
    expected = of_encoder(exact, graph)
    single = exact.float()
    assert (of_numpy(single, graph_of(random_structure(15), torch.float32)) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_turn_with_the_molecule(group, dtype):
    model, graph = network(dtype, group=group, qk_norm=True), graph_of(random_structure(9), dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    y = of_numpy(model, graph)
    assert (of_numpy(model, turned(graph, rotation, shift=5.0)) - matrix @ y).abs().max() < TOLERANCE[dtype]
    mirror_error = (of_numpy(model, turned(graph, -torch.eye(3))) - parity(2, dtype) * y).abs().max()
    assert mirror_error < TOLERANCE[dtype] if group == "E(3)" else mirror_error > 1e-2


def test_atoms_in_one_place_and_atoms_on_their_own():
    model = network(qk_norm=True)
    pos = [[0, 0, 0], [0, 0, 0], [0, 1.1, 0], [0, -1.1, 0], [30, 0, 0]]
    graph = graph_of(Structure([6, 8, 1, 1, 2], np.array(pos, dtype=float)))
    assert torch.allclose(of_numpy(model, graph), of_encoder(model, graph), atol=1e-10)


@pytest.mark.parametrize("pos", [[[0.0, 0, 0]], [[0.0, 0, 0], [9.0, 0, 0]], [[0.0, 0, 0], [0.0, 0, 0]]])
def test_what_has_no_edge_is_left_to_the_encoder(pos):
    assert of_numpy(network(), graph_of(Structure([6] * len(pos), pos))) is None


def test_weights_that_change_count_at_once():
    model, graph = network(qk_norm=True, message_channels=4), graph_of(random_structure(7))
    of_numpy(model, graph)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.1)
        assert torch.allclose(of_numpy(model, graph), of_encoder(model, graph), atol=1e-10)
    model.blocks[0].attention.output.weight = torch.nn.Parameter(torch.randn(3, 4, 8, dtype=torch.float64))
    assert torch.allclose(of_numpy(model, graph), of_encoder(model, graph), atol=1e-10)


@pytest.mark.parametrize(
    "kwargs",
    [{"neighbours": 3}, {"convolution": "full"}, {"lmax": 4}, {"input_numbers": 1}],
    ids=lambda given: next(iter(given)),
)
def test_other_encoders_compute_themselves(kwargs):
    graph = graph_of(random_structure(6, features=np.ones((6, 1))))
    assert of_numpy(network(**kwargs), graph) is None
    config = small_config(architecture="paper", num_heads=2)
    assert of_numpy(PaperTransformer(config).double(), graph) is None


def test_large_molecules_cells_given_edges_and_batches_are_left_to_the_encoder(monkeypatch):
    monkeypatch.setattr(small, "MOST_ATOMS", 8)
    model, ends = network(), torch.tensor([0, 1])
    given = graph_of(random_structure(5))
    given.src, given.dst = ends, ends.flip(0)
    graphs = [
        graph_of(random_structure(9)),
        graph_of(random_structure(5, cell=20 * np.eye(3))),
        given,
        GraphBatch.from_structures([random_structure(5), random_structure(4)], torch.float64),
    ]
    assert [of_numpy(model, graph) for graph in graphs] == [None] * 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert of_numpy(model, graph_of(random_structure(5))) is None
    assert of_numpy(model.bfloat16(), graph_of(random_structure(5), torch.bfloat16)) is None


def test_an_encoder_that_was_changed_computes_itself():
    class Doubled(SE3Transformer):
        def forward(self, graph, x=None):
            return 2 * super().forward(graph, x)

    class Identity(torch.nn.Module):
        def forward(self, x, edges, graph):
            return x

    graph, model = graph_of(random_structure(5)), network()
    assert of_numpy(Doubled(small_config()).double(), graph) is None
    model.blocks[1] = Identity()
    assert of_numpy(model, graph) is None


def test_large_products_give_the_same(monkeypatch):
    model, graph = network(qk_norm=True), graph_of(random_structure(12))
    expected = of_numpy(model, graph)
    monkeypatch.setattr(small, "ONE_THREAD", 0)
    assert torch.allclose(of_numpy(model, graph), expected, atol=1e-12)


def test_copies_have_weights_of_their_own():
    model, graph = network(), graph_of(random_structure(6))
    of_numpy(model, graph)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            other.species.weight.add_(1)
        assert torch.allclose(of_numpy(other, graph), of_encoder(other, graph), atol=1e-10)
        assert torch.allclose(of_numpy(model, graph), of_encoder(model, graph), atol=1e-10)


def test_gradients_can_be_had_after_a_prediction():
    """Tables that are made within a prediction serve gradients too, in a process that did nothing before."""
    program = """
import torch
from molformer.inference.forward import run
from molformer.models import PropertyModel
from molformer.graph import GraphBatch
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
