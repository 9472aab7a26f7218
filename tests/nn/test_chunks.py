"""Every way of computing gives the numbers of the plain float64 one: values, forces, and gradients through forces."""

from dataclasses import replace

import pytest
import torch

from molformer.data.neighbours import radius_edges
from molformer.models import SE3Transformer
from molformer.nn import FullConvolution, SeparableConvolution
from molformer.nn import edges as edges_module
from molformer.nn.chunks import whole_receivers
from tests.helpers import moved, random_graph, small_config

CONVOLUTIONS = pytest.mark.parametrize("convolution", ["separable", "full"])
GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])


@pytest.fixture
def in_chunks(monkeypatch):
    """Chunks of few edges, so that a small graph has many."""

    def limit(edges):
        for convolution in (SeparableConvolution, FullConvolution):
            monkeypatch.setattr(convolution, "min_chunk", edges)
        monkeypatch.setitem(edges_module.CHUNK_NUMBERS, "cpu", 1)

    return limit


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def everything(model, graph):
    """Energy, forces, gradients of the energy and of a loss on forces with respect to all weights and positions."""
    pos = graph.pos.detach().requires_grad_()
    weights = list(model.parameters())
    y = model(replace(graph, pos=pos))
    energy = y.square().sum()
    (plain,) = torch.autograd.grad(energy, pos, retain_graph=True)
    first = torch.autograd.grad(energy, [pos, *weights], create_graph=True)
    second = torch.autograd.grad(energy + first[0].square().sum(), [pos, *weights], allow_unused=True)
    return [y, plain, *first, *(x for x in second if x is not None)]


def assert_same(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs.double()).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


@CONVOLUTIONS
@GROUPS
@pytest.mark.parametrize("edges", [1, 20, 40])
def test_chunks_change_neither_values_nor_derivatives(convolution, group, edges, in_chunks):
    model = moved(SE3Transformer(small_config(convolution=convolution, group=group, num_layers=2))).double()
    graph = random_graph((6, 5, 1, 7))
    expected = everything(model, graph)
    in_chunks(edges)
    assert_same(everything(model, graph), expected, 1e-10)


@CONVOLUTIONS
def test_single_precision_in_chunks_is_near_the_plain_double(convolution, in_chunks):
    model = moved(SE3Transformer(small_config(convolution=convolution, num_layers=2))).double()
    expected = everything(model, random_graph((6, 5)))
    in_chunks(20)
    assert_same(everything(model.float(), random_graph((6, 5), torch.float32)), expected, 2e-3)


@CONVOLUTIONS
@pytest.mark.usefixtures("threads")
def test_threads_change_nothing(convolution, in_chunks):
    model = moved(SE3Transformer(small_config(convolution=convolution, num_layers=2))).double()
    graph = random_graph((6, 5, 7))
    torch.set_num_threads(1)
    expected = everything(model, graph)
    torch.set_num_threads(2)
    in_chunks(20)
    assert_same(everything(model, graph), expected, 1e-10)
    assert torch.get_num_threads() == 2
    with torch.inference_mode():
        assert torch.allclose(model(graph), expected[0], atol=1e-12)


def test_edges_may_be_given_in_any_order(in_chunks):
    model = moved(SE3Transformer(small_config(num_layers=2))).double()
    graph = random_graph((6, 5, 7))
    expected = everything(model, graph)
    src, dst = radius_edges(graph.pos, graph.ptr, model.config.cutoff)
    order = torch.randperm(len(src))
    shuffled = replace(graph, src=src[order], dst=dst[order])
    assert_same(everything(model, shuffled), expected, 1e-10)
    in_chunks(20)
    assert_same(everything(model, shuffled), expected, 1e-10)


def test_autocast_is_kept_in_the_backward(in_chunks):
    model, graph = moved(SE3Transformer(small_config(num_layers=1))), random_graph((6, 5), torch.float32)

    def gradients():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(graph)
        return torch.autograd.grad(y.float().square().sum(), list(model.parameters()))

    expected = gradients()
    in_chunks(20)
    assert_same(gradients(), expected, 0.05)


def test_a_chunk_holds_whole_receivers():
    degrees = torch.tensor([0, 3, 4, 9, 0, 1, 2, 0])
    chunks = whole_receivers(degrees, most=7)
    assert [chunk.first_node for chunk in chunks] == [0, *(chunk.last_node for chunk in chunks)][:-1]
    assert [chunk.first_edge for chunk in chunks] == [0, *(chunk.last_edge for chunk in chunks)][:-1]
    assert chunks[-1].last_node == len(degrees)
    assert chunks[-1].last_edge == degrees.sum()
    for chunk in chunks:
        assert chunk.last_edge - chunk.first_edge == degrees[chunk.first_node : chunk.last_node].sum()
        assert chunk.last_edge - chunk.first_edge <= 7 or chunk.last_node == chunk.first_node + 1
