"""Every kernel gives what the reference gives: values, gradients, second derivatives, for every kind of layer.

The fused kernels of a GPU, slow in Triton's interpreter, are compared on smaller graphs in `test_triton_attention`.
"""

import functools
from dataclasses import replace

import pytest
import torch

import molformer
from molformer.graph import GraphBatch
from molformer.kernels import Dispatcher, dispatch, memory
from molformer.models import SE3Transformer
from molformer.nn.attention import SE3Attention, attend
from molformer.nn.feed_forward import GatedFeedForward
from molformer.nn.so2 import SeparableConvolution
from tests.helpers import moved, random_structure, small_config

SIZES = {
    "separable SE(3)": {"lmax": 2},
    "separable E(3)": {"lmax": 2, "group": "E(3)"},
    "full SE(3)": {"lmax": 2, "convolution": "full", "radial": 4},
    "full E(3)": {"lmax": 2, "convolution": "full", "radial": 4, "group": "E(3)"},
    "narrow, normalised": {"lmax": 2, "channels": 12, "num_heads": 3, "message_channels": 6, "qk_norm": True},
    "lmax 0": {"lmax": 0, "qk_norm": True},
    "lmax 1": {"lmax": 1},
    "lmax 3": {"lmax": 3, "channels": 4, "num_heads": 2},
    "lmax 4": {"lmax": 4, "channels": 4, "num_heads": 2, "message_channels": 2},
    "inputs": {"lmax": 2, "input_vectors": 1, "input_scalars": 2},
}


def in_chunks(layer, queries, sent, edges):
    assert len(edges.src) > 200
    return memory.chunked(layer, queries, sent, edges, 50)


def in_chunks_unsaved(layer, queries, sent, edges):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "SAVED_NUMEL", 0)
        return memory.chunked(layer, queries, sent, edges, 50)


KERNELS = {"memory": in_chunks, "memory, nothing saved": in_chunks_unsaved, "auto": Dispatcher()}


def batch(periodic: bool = False, features: int = 0) -> GraphBatch:
    """64 nodes and more in graphs of different sizes, whose edges are given in no order."""
    structures = []
    for seed, size in enumerate((7, 1, 30, 12, 20)):
        structure = random_structure(size, spread=2.5, seed=seed)
        if periodic and seed % 2:
            structure = replace(structure, cell=6.0 * torch.eye(3).numpy(), pbc=(True, True, False))
        structures.append(structure)
    graph = GraphBatch.from_structures(structures, torch.float64)
    if features:
        generator = torch.Generator().manual_seed(3)
        graph = replace(graph, features=torch.randn(len(graph.pos), features, generator=generator, dtype=torch.float64))
    return graph


def shuffled(graph: GraphBatch, encoder: SE3Transformer) -> GraphBatch:
    src, dst, shift = encoder.find_edges(graph)
    order = torch.randperm(len(src), generator=torch.Generator().manual_seed(4))
    return replace(graph, src=src[order], dst=dst[order], shift=None if shift is None else shift[order])


def encoder_with(kernel, seed=0, **sizes) -> SE3Transformer:
    torch.manual_seed(seed)
    encoder = moved(SE3Transformer(small_config(num_layers=2, **sizes))).double()
    for module in encoder.modules():
        if isinstance(module, SE3Attention):
            module.kernel = kernel
    return encoder


def everything(kernel, graph, **sizes):
    """Features; gradients of inputs, positions and weights; and those of a function of the first gradients."""
    encoder = encoder_with(kernel, **sizes)
    generator = torch.Generator().manual_seed(2)
    shape = len(graph.pos), (encoder.config.lmax + 1) ** 2, encoder.config.channels
    x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    graph = shuffled(graph, encoder)
    pos = graph.pos.clone().requires_grad_()
    y = encoder(replace(graph, pos=pos), x)
    results = {"features": y}
    inputs = {"x": x, "pos": pos, **dict(encoder.named_parameters())}
    probe = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    # without those of positions, as in training on a property: there the memory kernel has a custom VJP
    learnt = {name: value for name, value in inputs.items() if name != "pos"}
    gradients = torch.autograd.grad((y * probe).sum(), learnt.values(), retain_graph=True, allow_unused=True)
    results |= {f"training grad {name}": value for name, value in zip(learnt, gradients, strict=True)}
    gradients = torch.autograd.grad((y * probe).sum(), inputs.values(), create_graph=True, allow_unused=True)
    results |= {f"grad {name}": value for name, value in zip(inputs, gradients, strict=True)}
    # as in a loss on forces, together with one on the energy
    loss = gradients[1].square().sum() + (gradients[0] * x).sum() + y.square().sum()
    second = torch.autograd.grad(loss, inputs.values(), allow_unused=True)
    results |= {f"second {name}": value for name, value in zip(inputs, second, strict=True)}
    return {name: None if value is None else value.detach() for name, value in results.items()}


@functools.cache
def reference(name, periodic):
    return everything(attend, _graph(name, periodic), **SIZES[name])


def _graph(name, periodic):
    return batch(periodic, features=5 if name == "inputs" else 0)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("periodic", [False, True])
def test_every_kernel_gives_what_the_reference_gives(kernel, name, periodic):
    expected = reference(name, periodic)
    found = everything(KERNELS[kernel], _graph(name, periodic), **SIZES[name])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert (value is None) == (found[key] is None), key
        if value is not None:
            scale = max(1.0, float(value.abs().max()))
            assert (found[key] - value).abs().max() < 1e-10 * scale, key


@pytest.fixture
def chunks(monkeypatch):
    """The dispatcher takes the memory kernel for every layer; gives the number of times that it did."""
    calls = []
    monkeypatch.setattr(dispatch, "chunk_numel", lambda device: 1)
    monkeypatch.setattr(dispatch, "LEAST_CHUNK", 50)
    monkeypatch.setattr(dispatch, "WHOLE_NUMEL", 0)
    monkeypatch.setattr(dispatch, "chunked", lambda *args: calls.append(1) or memory.chunked(*args))
    return calls


def test_chunks_are_used_where_there_are_many_edges(chunks):
    encoder = encoder_with(Dispatcher())
    assert torch.allclose(encoder(batch()), encoder_with(attend)(batch()), atol=1e-12)
    assert len(chunks) == 2


@pytest.mark.parametrize(
    "module", ["convolution", "convolution.scale", "query", "sender", "output", "self_interaction"]
)
def test_a_forward_hook_changes_what_every_kernel_gives(chunks, module):
    results = []
    for kernel in (Dispatcher(), attend):
        encoder = encoder_with(kernel, message_channels=4)
        layer = encoder.blocks[0].attention.get_submodule(module)
        plain = encoder(batch())
        layer.register_forward_hook(lambda module, inputs, output: 1.5 * output)
        results.append(encoder(batch()))
        assert (results[-1] - plain).abs().max() > 1e-3
    assert torch.allclose(*results, atol=1e-12)


@pytest.mark.parametrize("part", ["expand", "gate", "reduce"])
def test_layers_call_their_submodules(part):
    encoder = encoder_with(Dispatcher())
    plain = encoder(batch())
    encoder.blocks[0].feed_forward.get_submodule(part).register_forward_hook(
        lambda module, inputs, output: 1.5 * output
    )
    assert (encoder(batch()) - plain).abs().max() > 1e-3


class Doubled(GatedFeedForward):
    def forward(self, x):
        return 2 * super().forward(x)


class Halved(SeparableConvolution):
    def forward(self, x, features):
        return 0.5 * super().forward(x, features)


class Sharper(SE3Attention):
    def weights(self, queries, keys, edges):
        return super().weights(3 * queries, keys, edges)


@pytest.mark.parametrize(
    ("replace_in", "kind"),
    [
        (lambda block: block.feed_forward, Doubled),
        (lambda block: block.attention.convolution, Halved),
        (lambda block: block.attention, Sharper),
    ],
)
def test_a_replaced_submodule_is_the_one_that_is_computed(chunks, replace_in, kind):
    results = []
    for kernel in (Dispatcher(), attend):
        encoder = encoder_with(kernel)
        plain = encoder(batch())
        replace_in(encoder.blocks[0]).__class__ = kind
        results.append(encoder(batch()))
        assert (results[-1] - plain).abs().max() > 1e-4
    assert torch.allclose(*results, atol=1e-12)


@pytest.mark.parametrize("kernel", ["memory", "auto"])
def test_inference_mode(kernel):
    encoder, graph = encoder_with(KERNELS[kernel]), batch()
    expected = encoder(graph).detach()
    with torch.inference_mode():
        assert torch.allclose(encoder(graph), expected, atol=1e-12)


def test_a_model_that_was_loaded_in_inference_mode_predicts():
    with torch.inference_mode():
        inside = molformer.load("qm9").predict("CCO")["homo"].value
    assert inside == pytest.approx(molformer.load("qm9").predict("CCO")["homo"].value, abs=1e-6)


def test_chunks_keep_their_autocast_in_the_backward(chunks):
    encoder, graph = encoder_with(Dispatcher()).float(), batch()
    graph = replace(graph, pos=graph.pos.float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(graph).square().mean()
    rough.backward()
    gradient = encoder.blocks[0].attention.query.weight.grad
    exact = encoder_with(attend).float()
    exact(graph).square().mean().backward()
    expected = exact.blocks[0].attention.query.weight.grad
    assert 0 < (gradient - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_second_backward_through_the_same_chunks(chunks):
    encoder = encoder_with(Dispatcher())
    y = encoder(batch()).square().mean()
    weight = encoder.blocks[0].attention.query.weight
    (first,) = torch.autograd.grad(y, weight, retain_graph=True)
    (second,) = torch.autograd.grad(y, weight)
    assert torch.allclose(first, second, atol=1e-12)


def test_a_second_derivative_of_fewer_inputs_than_the_first(chunks):
    results = []
    for kernel in (Dispatcher(), attend):
        encoder = encoder_with(kernel)
        attention = encoder.blocks[-1].attention
        weights = attention.query.weight, attention.convolution.scale.weight
        gradients = torch.autograd.grad(encoder(batch()).square().mean(), weights, create_graph=True)
        results += torch.autograd.grad(sum(each.square().sum() for each in gradients), weights[:1])
    assert torch.allclose(*results, atol=1e-12)


def test_chunks_hold_whole_receivers():
    starts = torch.tensor([0, 0, 3, 3, 10, 11, 12])
    chunks = memory.receiver_chunks(starts, 4)
    assert [(c.edges.start, c.edges.stop) for c in chunks] == [(0, 3), (3, 10), (10, 12)]
    assert [(c.nodes.start, c.nodes.stop) for c in chunks] == [(0, 3), (3, 4), (4, 6)]
