"""Every way of computing gives the numbers of the plain float64 one: values, forces, and gradients through forces."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from molformer.graph.neighbors import radius_edges
from molformer.models import SE3Transformer
from molformer.nn import FullConvolution, SeparableConvolution, chunks, receivers
from molformer.nn import edges as edges_module
from molformer.nn.chunks import whole_receivers
from molformer.so3 import turning
from tests.helpers import moved, random_graph, small_config

CONVOLUTIONS = pytest.mark.parametrize("convolution", ["separable", "full"])
GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])


@pytest.fixture
def in_chunks(monkeypatch):
    """Chunks of few edges, so that a small graph has many."""

    def limit(edges):
        for convolution in (SeparableConvolution, FullConvolution):
            monkeypatch.setattr(convolution, "min_chunk", edges)
        monkeypatch.setattr(edges_module, "chunk_numbers", lambda device: 1)
        monkeypatch.setitem(edges_module.WHOLE_NUMBERS, "cpu", 0)

    return limit


@pytest.fixture
def in_runs(monkeypatch):
    """Products of runs of receivers, and nodes sorted for them, however short they are."""

    def allow():
        monkeypatch.setattr(receivers, "FEWEST_NODES", 0)
        monkeypatch.setattr(receivers, "FEWEST_ALL", 0)

    return allow


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def may_keep(number, monkeypatch):
    """Let the layers of a forward keep so many bytes for the backward."""
    monkeypatch.setattr(edges_module, "KEPT_BYTES", number)
    monkeypatch.setattr(edges_module, "KEPT_BYTES_TWICE", number)


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
@pytest.mark.parametrize(("edges", "memory"), [(1, 0), (20, 0), (20, 1 << 20), (40, 1 << 20)])
def test_chunks_change_neither_values_nor_derivatives(convolution, group, edges, memory, in_chunks, monkeypatch):
    may_keep(memory, monkeypatch)  # for keys and values, or to compute them again
    model = moved(SE3Transformer(small_config(convolution=convolution, group=group, num_layers=2))).double()
    graph = random_graph((6, 5, 1, 7))
    expected = everything(model, graph)
    in_chunks(edges)
    assert_same(everything(model, graph), expected, 1e-10)


@CONVOLUTIONS
@pytest.mark.parametrize(
    "sizes", [{"qk_norm": True}, {"message_channels": 4}, {"qk_norm": True, "message_channels": 4}]
)
def test_variants_of_attention_have_right_derivatives_in_chunks(convolution, sizes, in_chunks, monkeypatch):
    may_keep(0, monkeypatch)
    model = moved(SE3Transformer(small_config(convolution=convolution, num_layers=2, **sizes))).double()
    graph = random_graph((6, 5, 1, 7))
    expected = everything(model, graph)
    in_chunks(20)
    assert_same(everything(model, graph), expected, 1e-10)


@CONVOLUTIONS
@GROUPS
@pytest.mark.parametrize(("edges", "memory"), [(1000, 0), (20, 0), (20, 1 << 20)])
def test_runs_of_receivers_change_neither_values_nor_derivatives(
    convolution, group, edges, memory, in_chunks, in_runs, monkeypatch
):
    may_keep(memory, monkeypatch)
    sizes = {"num_layers": 2, "qk_norm": True, "message_channels": 4, "input_numbers": 1, "input_vectors": 1}
    model = moved(SE3Transformer(small_config(convolution=convolution, group=group, cutoff=2.5, **sizes))).double()
    graph = random_graph((6, 5, 1, 7))
    graph.features = torch.randn(19, 4, dtype=torch.float64)
    expected = everything(model, graph)
    in_chunks(edges)
    in_runs()
    order = receivers.order_for_runs(radius_edges(graph.pos, graph.ptr, 2.5)[1], 19)
    assert order is None or set(order.tolist()) == set(range(19))
    assert_same(everything(model, graph), expected, 1e-10)


def test_nodes_are_sorted_by_their_number_of_edges_where_that_makes_long_runs():
    degrees = torch.tensor([3, 2] * 50)
    dst = torch.arange(100).repeat_interleave(degrees)
    order = receivers.order_for_runs(dst, 100)
    assert order.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]
    assert receivers.order_for_runs(torch.arange(100).repeat_interleave(2), 100) is None  # one run as it is
    assert receivers.order_for_runs(torch.arange(100).repeat_interleave(torch.arange(100)), 100) is None  # no two alike
    assert receivers.order_for_runs(torch.tensor([0, 0, 1, 2, 2, 3]), 4) is None  # too little to be worth it


def test_nodes_without_edges_are_a_run_too(in_runs):
    model = moved(SE3Transformer(small_config(num_layers=1))).double()
    graph = random_graph((1,) * 4 + (2, 2))
    expected = everything(model, graph)
    in_runs()
    assert_same(everything(model, graph), expected, 1e-10)


def test_chunks_grow_with_the_threads_up_to_a_limit(threads):
    of_two = edges_module.chunk_numbers("cpu")
    torch.set_num_threads(1)
    assert of_two == min(2 * edges_module.chunk_numbers("cpu"), edges_module.MOST_CHUNK_NUMBERS)
    torch.set_num_threads(64)
    assert edges_module.chunk_numbers("cpu") == edges_module.MOST_CHUNK_NUMBERS


def test_functions_of_runs_have_right_derivatives_to_second_order():
    runs = receivers.runs_of(torch.tensor([2] * 8 + [0] * 8 + [1] * 8))
    frames, y = torch.randn(24, 4, 4), torch.randn(24, 4, 2)
    x = torch.randn(24, 4, 2)
    frames, y, x = (tensor.double().requires_grad_() for tensor in (frames, y, x))
    dst = torch.tensor([*range(8)] * 2 + [*range(16, 24)]).sort().values
    assert torch.allclose(receivers.to_edges(frames, x, runs), frames @ x[dst])
    expected = torch.zeros_like(x).index_add(0, dst, frames.transpose(1, 2) @ y)
    assert torch.allclose(receivers.to_receivers(frames, y, runs), expected)
    assert torch.allclose(receivers.outer(y, x, runs), y @ x[dst].transpose(1, 2))
    for function, inputs in (
        (receivers.to_edges, (frames, x)),
        (receivers.to_receivers, (frames, y)),
        (receivers.outer, (y, x)),
    ):
        assert torch.autograd.gradcheck(lambda *given, of=function: of(*given, runs), inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda *given, of=function: of(*given, runs), inputs, fast_mode=True)


@CONVOLUTIONS
def test_frames_as_blocks_change_neither_values_nor_derivatives(convolution, in_chunks, monkeypatch):
    may_keep(0, monkeypatch)
    model = moved(SE3Transformer(small_config(convolution=convolution, num_layers=2))).double()
    graph = random_graph((6, 5, 1, 7))
    expected = everything(model, graph)
    in_chunks(20)
    monkeypatch.setattr(turning, "DENSE_LMAX", 1)
    assert model.embed_edges(graph).frames.ndim == 2
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


def test_forces_alone_need_no_gradients_of_weights(in_chunks, monkeypatch):
    model, graph = moved(SE3Transformer(small_config(num_layers=1))).double(), random_graph((6, 5, 7))
    pos, asked = graph.pos.requires_grad_(), []
    run = chunks._Work.run
    monkeypatch.setattr(
        chunks._Work, "run", lambda work, x: asked.append([to.over for to in work.outputs]) or run(work, x)
    )
    in_chunks(20)
    may_keep(0, monkeypatch)
    torch.autograd.grad(model(graph).square().sum(), pos, retain_graph=True)
    assert chunks.Over.ALL not in asked[-1]
    model(graph).square().sum().backward()
    assert chunks.Over.ALL in asked[-1]


@CONVOLUTIONS
@GROUPS
def test_a_block_compiles_without_a_break_to_the_same_function(convolution, group, in_chunks):
    model = moved(SE3Transformer(small_config(convolution=convolution, group=group, num_layers=1))).double()
    block = model.blocks[0]
    graph = random_graph((6, 5, 7))
    with torch.no_grad():
        edges = model.embed_edges(graph)
    x = torch.randn(18, 9, 8, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    in_chunks(20)
    found, expected = (
        [y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()], retain_graph=True)]
        for y in (compiled(x, edges, graph), block(x, edges, graph))
    )
    assert_same(found, expected, 1e-10)


def test_layers_that_are_differentiated_twice_keep_all_edges_while_memory_lasts(in_chunks, monkeypatch):
    model, graph = moved(SE3Transformer(small_config(num_layers=3))).double(), random_graph((6, 5, 7))
    graph.pos.requires_grad_()
    runs, run = [], chunks._Work.run
    monkeypatch.setattr(chunks._Work, "run", lambda work, x: runs.append(work) or run(work, x))
    in_chunks(20)
    layer = 44 * len(model.embed_edges(graph).src) * 9 * model.config.channels * 8
    for budget, in_pieces in ((0, 3), (layer, 2), (2.5 * layer, 1), (3 * layer, 0)):
        may_keep(budget, monkeypatch)
        runs.clear()
        model(graph)
        assert len(runs) == in_pieces


def large_pieces_kept(model, graph, size):
    """How many pieces of memory of at least `size` bytes are kept for the backward."""
    pieces = {}

    def pack(x):
        pieces[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = model(graph)
    assert y.requires_grad
    return sum(nbytes >= size for nbytes in pieces.values())


@pytest.mark.parametrize(("memory", "for_each_layer"), [(0, 0), (1 << 29, 2)])
def test_a_layer_keeps_keys_and_values_or_nothing_of_the_size_of_its_edges(memory, for_each_layer, monkeypatch):
    monkeypatch.setitem(edges_module.WHOLE_NUMBERS, "cpu", 0)
    monkeypatch.setattr(edges_module, "chunk_numbers", lambda device: 1 << 18)
    may_keep(memory, monkeypatch)
    graph = random_graph((30, 30), torch.float32, spread=1.0)
    models = [SE3Transformer(small_config(num_layers=layers, channels=32)) for layers in (1, 3)]
    num_edges = len(models[0].embed_edges(graph).src)
    few, many = (large_pieces_kept(model, graph, num_edges * 9 * 32 * 4) for model in models)
    assert num_edges > 1500
    assert many - few == 2 * for_each_layer


def test_memory_of_a_training_step_is_bounded():
    """A tensor (E, M, C) has 25 MB here; autograd would keep some ten of them for each of the six layers."""
    step = """
import resource, torch
from molformer.graph import GraphBatch
from molformer.data.structure import Structure
from molformer.models import SE3Transformer, SE3TransformerConfig
from molformer.nn import edges
edges.KEPT_BYTES, edges.chunk_numbers = 0, lambda device: 1 << 19
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
graph = GraphBatch.from_structures([Structure([6] * 36, torch.randn(36, 3).numpy()) for _ in range(10)])
config = SE3TransformerConfig(lmax=3, channels=32, num_layers=6, cutoff=50.0)
model, before = SE3Transformer(config), peak()
model(graph).square().mean().backward()
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", step], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 350  # MB


def test_a_chunk_holds_whole_receivers():
    degrees = torch.tensor([0, 3, 4, 9, 0, 1, 2, 0])
    cut = whole_receivers(degrees, most=7)
    assert [chunk.first_node for chunk in cut] == [0, *(chunk.last_node for chunk in cut)][:-1]
    assert [chunk.first_edge for chunk in cut] == [0, *(chunk.last_edge for chunk in cut)][:-1]
    assert cut[-1].last_node == len(degrees)
    assert cut[-1].last_edge == degrees.sum()
    for chunk in cut:
        assert chunk.last_edge - chunk.first_edge == degrees[chunk.first_node : chunk.last_node].sum()
        assert chunk.last_edge - chunk.first_edge <= 7 or chunk.last_node == chunk.first_node + 1
