"""Lengths of vectors, ⟨r²⟩ and polarizabilities from charges, vectors and positions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from molformer.data.statistics import baseline_values, target_statistics
from molformer.data.store import write_store
from molformer.data.structure import Structure
from molformer.graph import GraphBatch
from molformer.models import PropertyModel
from molformer.nn import TensorHead
from molformer.targets import Label
from molformer.targets.moments import (
    IsotropicTensorHead,
    NonlocalTensorHead,
    SpatialExtentHead,
    VectorLengthHead,
    centred,
)
from tests.helpers import moved, parity, random_graph, random_structure, rotation_and_matrix, small_model, turned

MU, ALPHA, R2 = (
    Label("mu", "D", "vector_length"),
    Label("alpha", "a0^3", "isotropic_tensor"),
    Label("r2", "a0^2", "spatial_extent"),
)
TENSOR = Label("tensor", "a0^3", "tensor")
CYANOGEN = Structure([7, 6, 6, 7], [[x, 0, 0] for x in (-1.85, -0.69, 0.69, 1.85)])
RING = [[r * np.cos(a), r * np.sin(a), 0] for r in (1.39, 2.48) for a in np.arange(6) * np.pi / 3]
BENZENE = Structure([6] * 6 + [1] * 6, RING)
GLYOXAL = [[0.65, 0.39, 0], [1.71, -0.16, 0], [0.61, 1.49, 0]]  # trans: C, O and H, and their inversion
TRANS = Structure([6, 8, 1] * 2, GLYOXAL + [[-x for x in each] for each in GLYOXAL])
CHANNELS = 8


def with_statistics(model):
    model.head("mu").set_statistics(2.0, torch.zeros(119), 5.0)
    model.head("alpha").set_statistics(3.0, torch.arange(119), 5.0)
    model.head("r2").set_statistics(4.0, torch.stack([torch.arange(119), torch.arange(119) / 9]), 5.0)
    return model


@pytest.mark.parametrize("group", ["E(3)", "SE(3)"])
def test_they_are_invariant(group):
    model, graph = with_statistics(small_model([MU, ALPHA, R2], group=group)), random_graph((6, 4))
    rotation, _ = rotation_and_matrix(2)
    value, order = model(graph), torch.cat([torch.randperm(6), torch.arange(6, 10)])
    same = [
        turned(graph, rotation, shift=3.0),
        replace(graph, pos=graph.pos[order], numbers=graph.numbers[order]),
        *([replace(graph, pos=-graph.pos)] if group == "E(3)" else []),
    ]
    for name in value:
        assert value[name].shape == (2,)
        assert value[name].dtype == torch.float64
        for other in same:
            assert torch.allclose(model(other)[name], value[name], rtol=0, atol=1e-10)
        assert torch.allclose(model(random_graph((6,)))[name], value[name][:1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("structure", [CYANOGEN, BENZENE, TRANS], ids=["cyanogen", "benzene", "trans"])
def test_no_length_where_inversion_is_a_symmetry(structure, dtype, most):
    model = small_model([MU], dtype, group="E(3)")
    graph = GraphBatch.from_structures([structure], dtype)
    assert model(graph)["mu"].abs().max() < most
    bent = replace(graph, pos=graph.pos + torch.eye(len(structure), 3, dtype=dtype) / 9)
    assert model(bent)["mu"].item() > 1e-3


@pytest.mark.parametrize("atoms", [1, 2])
def test_single_atoms_and_molecules_without_edges(atoms):
    model = with_statistics(small_model([MU, ALPHA, R2]))
    far = Structure([8, 1][:atoms], [[0, 0, 0], [90.0, 0, 0]][:atoms])
    value = model(GraphBatch.from_structures([far], torch.float64))
    assert all(each.isfinite().all() for each in value.values())
    assert (value["mu"].abs().item() < 1e-12) == (atoms == 1)


def test_a_length_has_two_derivatives_also_at_zero():
    model = small_model([MU], group="E(3)", num_layers=1, channels=4)
    for structure in (CYANOGEN, random_structure(3)):
        graph = GraphBatch.from_structures([structure], torch.float64)

        def length(pos, graph=graph):
            return model(replace(graph, pos=pos))["mu"]

        pos = graph.pos.requires_grad_()
        gradient = torch.autograd.grad(length(pos).sum(), pos, create_graph=True)[0]
        second = torch.autograd.grad(gradient.square().sum(), pos)[0]
        assert gradient.isfinite().all()
        assert second.isfinite().all()
    assert gradcheck(length, pos, eps=1e-5, atol=1e-6)
    assert gradgradcheck(length, pos, eps=1e-5, atol=1e-5, fast_mode=True)


def test_a_length_is_learnt_from_vectors_next_to_zero():
    graph, x = random_graph((6, 4, 5)), torch.randn(15, 9, CHANNELS, dtype=torch.float64)
    head = VectorLengthHead(CHANNELS).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 1e-3
    label = torch.tensor([3.0, 1.0, 2.0]).double()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        loss = (head(x, graph) - label).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_values_are_those_of_the_formulas():
    graph, x = random_graph((6, 4)), torch.randn(10, 9, CHANNELS, dtype=torch.float64)
    weight = graph.numbers.double()
    centres = [(weight[rows, None] * graph.pos[rows]).sum(0) / weight[rows].sum() for rows in (slice(6), slice(6, 10))]
    d = graph.pos - torch.stack(centres)[graph.batch]
    assert torch.allclose(centred(graph), d, atol=1e-12)
    heads = [moved(head(CHANNELS)).double() for head in (VectorLengthHead, IsotropicTensorHead, SpatialExtentHead)]
    length, isotropic, extent = heads
    v, y = zip(*((head.vectors(x), head.net(x[:, 0])) for head in heads), strict=True)
    q = y[0] - graph.mean_over_graphs(y[0])[graph.batch]
    expected = 2 * graph.sum_over_graphs(v[0] + q * d).norm(dim=-1)
    length.set_statistics(2.0, torch.zeros(119), 5.0)
    assert torch.allclose(length(x, graph), expected, atol=1e-5)
    isotropic.set_statistics(2.0, torch.arange(119), 5.0)
    expected = graph.sum_over_graphs(weight + 0.4 * (y[1][:, 0] + (v[1] * d).sum(-1)))
    assert torch.allclose(isotropic(x, graph), expected, atol=1e-11)
    extent.set_statistics(2.0, torch.stack([torch.arange(119), -3 * torch.arange(119)]), 5.0)
    square = d.square().sum(-1)
    expected = weight - 3 * weight * square + 0.4 * (y[2][:, 0] + (v[2] * d).sum(-1) + y[2][:, 1] * square)
    assert torch.allclose(extent(x, graph), graph.sum_over_graphs(expected), atol=1e-11)


def test_a_tensor_has_parts_that_reach_beyond_an_atom():
    graph, x = random_graph((6, 4)), torch.randn(10, 9, CHANNELS, dtype=torch.float64)
    head = moved(NonlocalTensorHead(CHANNELS)).double()
    head.set_statistics(2.0, torch.arange(119), 5.0)
    rotation, matrix = rotation_and_matrix(2)
    value = head(x, graph)
    expected = rotation @ value @ rotation.T
    assert torch.allclose(head(matrix @ x, turned(graph, rotation, shift=3.0)), expected, atol=1e-9)
    assert torch.allclose(head(parity(2) * x, replace(graph, pos=-graph.pos)), value, atol=1e-10)
    outer = torch.einsum("na,nb->nab", head.vectors(x), centred(graph))
    assert torch.allclose(
        value - TensorHead.forward(head, x, graph), 0.4 * graph.sum_over_graphs(outer + outer.mT), atol=1e-11
    )


def test_tensors_of_earlier_models_are_as_they_were():
    model, graph = small_model([TENSOR], torch.float32), random_graph(dtype=torch.float32)
    x = model.features(graph)
    before = TensorHead.forward(model.head("tensor"), x, graph)
    state = {name: value for name, value in model.state_dict().items() if ".vectors." not in name}
    again = PropertyModel(model.config, [TENSOR])
    again.load_state_dict(state)
    assert torch.allclose(again.eval()(graph)["tensor"], before, rtol=0, atol=1e-6)


def test_references_of_an_extent_are_fitted(tmp_path):
    """Charges of elements at their positions: what the references do not explain is zero."""
    members = []
    for seed in range(40):
        bare = random_structure(5 + seed % 3, seed=seed)
        d = bare.pos - np.average(bare.pos, axis=0, weights=bare.numbers)
        value = (0.5 * bare.numbers + 3.6 * bare.numbers * (d**2).sum(1)).sum()
        members.append(replace(bare, labels={"r2": value if seed else np.nan}))
    store, rows = write_store(tmp_path / "set", members, [R2]), np.arange(40)
    found = target_statistics(store, rows, R2)
    elements = np.array(store.elements)
    assert found.references.shape == (2, 119)
    assert found.references[0, elements] == pytest.approx(0.5 * elements, abs=1e-3)
    assert found.references[1, elements] == pytest.approx(3.6 * elements, abs=1e-4)
    assert found.scale < 1e-3
    head = SpatialExtentHead(CHANNELS).double()
    head.set_statistics(0.0, torch.from_numpy(found.references), found.size)
    graph = GraphBatch.from_structures([replace(each, labels={}) for each in members[1:]], torch.float64)
    expected = baseline_values(store, rows, R2, found.references)
    value = head(torch.randn(len(graph.pos), 9, CHANNELS).double(), graph)
    assert value.detach().numpy() == pytest.approx(expected, rel=1e-6)
