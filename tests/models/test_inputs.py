"""Vectors and numbers that are given for each node: velocities, charges, normals, and the axis that is up."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch
from molformer.inference import Predictor
from molformer.inference.checks import check_model
from molformer.models import PropertyModel, SE3Transformer
from molformer.models.equivariance import equivariance_error
from tests.helpers import TOLERANCE, moved, parity, random_graph, random_structure, rotation_and_matrix, small_config
from tests.helpers import turned as turned_graph

VELOCITY = Label("velocity", "", "atom_vector")
GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])


def graph_with_inputs(dtype=torch.float64, vectors=2, numbers=1):
    graph = random_graph(dtype=dtype)
    return replace(graph, features=torch.randn(len(graph.pos), 3 * vectors + numbers, dtype=dtype))


def turned(graph, rotation, vectors=2):
    features = graph.features.clone()
    features[:, : 3 * vectors] = (features[:, : 3 * vectors].unflatten(1, (vectors, 3)) @ rotation.T).flatten(1)
    return turned_graph(replace(graph, features=features), rotation, shift=3.0)


@GROUPS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_turn_with_the_molecule_and_its_vectors(group, dtype):
    model = moved(SE3Transformer(small_config(group=group, input_vectors=2, input_scalars=1))).to(dtype)
    graph = graph_with_inputs(dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    mirror = -torch.eye(3, dtype=dtype)
    with torch.no_grad():
        y = model(graph)
        error = (model(turned(graph, rotation)) - matrix @ y).abs().max()
        mirror_error = (model(turned(graph, mirror)) - parity(2, dtype) * y).abs().max()
        unturned = (model(turned_graph(graph, rotation)) - matrix @ y).abs().max()
    assert error < TOLERANCE[dtype]
    assert mirror_error < TOLERANCE[dtype] if group == "E(3)" else mirror_error > 1e-2
    assert unturned > 1e-2  # they are looked at


@pytest.mark.parametrize("column", [0, 6])
def test_nodes_and_edges_see_every_input(column):
    """A number or vector changes the node's own features and, through the edges' features, the keys of its edges."""
    model, graph = moved(SE3Transformer(small_config(input_vectors=2, input_scalars=1))).double(), graph_with_inputs()
    other = graph.features.clone()
    other[0, column] += 1.0
    changed = replace(graph, features=other)
    with torch.no_grad():
        nodes = (model.embed_nodes(changed) - model.embed_nodes(graph)).abs().flatten(1).amax(1)
        before, after = model.embed_edges(graph), model.embed_edges(changed)
        edges = (after.features - before.features).abs().amax(1)
    assert torch.equal(nodes > 1e-6, torch.arange(len(nodes)) == 0)
    assert torch.equal(edges > 1e-9, (before.src == 0) | (before.dst == 0))


def test_a_missing_input_counts_as_zero():
    model, graph = moved(SE3Transformer(small_config(input_scalars=1))).double(), graph_with_inputs(vectors=0)
    missing, zero = graph.features.clone(), graph.features.clone()
    missing[1], zero[1] = torch.nan, 0.0
    with torch.no_grad():
        y = model(replace(graph, features=missing))
        assert torch.equal(y, model(replace(graph, features=zero)))
        assert y.isfinite().all()


def test_too_few_features_are_an_error():
    model = SE3Transformer(small_config(input_vectors=1, input_scalars=1))
    with pytest.raises(InputError, match=r"takes 4 features of each atom or point \(1 vectors, 1 numbers\).*have 0"):
        model(random_graph(dtype=torch.float32))
    with pytest.raises(ConfigError, match="input vectors, `symmetry_axis` and `center` need lmax of at least 1"):
        small_config(lmax=0, input_vectors=1)
    with pytest.raises(ConfigError, match="input_scalars is -1"):
        small_config(input_scalars=-1)
    with pytest.raises(ConfigError, match="symmetry_axis 'w' is not one of none, x, y, z"):
        small_config(symmetry_axis="w")


def test_a_head_passes_vectors_through():
    """The displacement of a free particle is its velocity times a number, however large it is."""
    model = PropertyModel(small_config(input_vectors=1), [VELOCITY]).double().eval()
    graph = graph_with_inputs(vectors=1, numbers=0)
    head = model.head("velocity")
    with torch.no_grad():
        head.net[-1].weight.zero_()
        head.net[-1].bias.zero_()[-1] = 2.0
        value = model(replace(graph, features=1000 * graph.features))["velocity"]
    assert torch.allclose(value, 2000 * graph.features)


def test_measured_equivariance_turns_the_vectors_too():
    model = moved(PropertyModel(small_config(input_vectors=2, input_scalars=1), [VELOCITY]))
    graph = graph_with_inputs(torch.float32)
    assert equivariance_error(model, graph, torch.float64)["velocity"] < 1e-9
    assert all(check.passed for check in check_model(model))


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_up_is_an_axis_about_which_the_model_is_equivariant(up):
    model = moved(PropertyModel(small_config(symmetry_axis=up), [VELOCITY]))
    graph = random_graph()
    assert equivariance_error(model, graph, torch.float64)["velocity"] < 1e-9
    rotation, _ = rotation_and_matrix(1)
    with torch.no_grad():
        model = model.double()
        broken = model(turned_graph(graph, rotation))["velocity"] - model(graph)["velocity"] @ rotation.T
    assert broken.abs().max() > 1e-2


def test_the_vector_from_the_centroid_is_an_input_and_translation_invariant():
    model = moved(PropertyModel(small_config(center=True), [VELOCITY]))
    graph = random_graph()
    assert equivariance_error(model, graph, torch.float64)["velocity"] < 1e-9
    far = GraphBatch.from_structures([Structure([1, 1], [[0, 0, 0], [x, 0, 0]]) for x in (90, 99)], torch.float64)
    with torch.no_grad():  # beyond the cutoff, nothing but the centre tells the two graphs apart
        lengths = model.double()(far)["velocity"].norm(dim=1)
    assert abs(lengths[0] - lengths[2]) > 1e-3


def test_saved_and_predicted_with(tmp_path):
    model = moved(PropertyModel(small_config(input_vectors=1, symmetry_axis="z"), [VELOCITY])).eval()
    model.save(tmp_path / "model")
    cloud = random_structure(5)
    cloud = replace(cloud, features=np.random.default_rng(0).normal(size=(5, 3)))
    predictor = Predictor.load(tmp_path / "model")
    row, refused = predictor.predict([cloud, random_structure(5)])
    with torch.no_grad():
        expected = model(GraphBatch.from_structures([cloud]))["velocity"]
    assert np.allclose(row["velocity"].value, expected)
    assert refused.status == "invalid_input"
    assert "takes 3 features of each atom or point" in refused.message
