"""The fused kernels against the plain path: on a GPU if there is one, and else in Triton's interpreter."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.kernels import dispatch, use_kernels
from molformer.models import PaperTransformer, PropertyModel, SE3Transformer, preset
from tests.helpers import moved, random_graph, small_config

fused_kernels = pytest.importorskip("molformer.kernels.triton_attention", exc_type=ImportError)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def encoder(dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    network = SE3Transformer(small_config(num_layers=2, **kwargs))
    return moved(network).to(DEVICE, dtype)


def graph_of(sizes, dtype=torch.float64):
    return random_graph(sizes, dtype).to(DEVICE)


def features_and_gradients(network, graph, kernels, x):
    """With input features of every degree, whose gradient counts too."""
    use_kernels(network, kernels)
    network.zero_grad()
    x = x.clone().requires_grad_()
    y = network(graph, x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=DEVICE).view_as(y)).sum().backward()
    return y.detach(), {"x": x.grad} | {name: weight.grad for name, weight in network.named_parameters()}


@pytest.mark.parametrize(
    "sizes",
    [
        {"lmax": 1, "num_heads": 1},
        {"lmax": 2, "qk_norm": True},
        {"lmax": 2, "channels": 12, "num_heads": 3, "message_channels": 6, "qk_norm": True},
        {"lmax": 3, "channels": 24, "num_heads": 4, "group": "E(3)"},
        {"lmax": 2, "convolution": "full", "radial": 4},
    ],
)
def test_features_and_gradients_are_those_of_the_plain_path(sizes, monkeypatch):
    calls = []
    attend = fused_kernels.attend
    monkeypatch.setattr(fused_kernels, "attend", lambda *args: calls.append(1) or attend(*args))
    network, graph = encoder(**sizes), graph_of((7, 1, 4))
    x = torch.randn(
        len(graph.pos), (network.config.lmax + 1) ** 2, network.config.channels, dtype=torch.float64, device=DEVICE
    )
    plain, plain_gradients = features_and_gradients(network, graph, "plain", x)
    assert not calls
    fused, gradients = features_and_gradients(network, graph, "triton", x)
    assert len(calls) == 2  # layers
    assert (plain - fused).abs().max() < 1e-11
    for name, gradient in plain_gradients.items():
        if gradient is None:
            assert gradients[name] is None
        else:
            assert (gradient - gradients[name]).abs().max() < 1e-10 * max(1, gradient.abs().max()), name


def test_single_precision_and_large_logits():
    network, graph = encoder(torch.float32), graph_of((6, 3), torch.float32)
    with torch.no_grad():
        for block in network.blocks:
            block.attention.query.weight *= 100
    x = torch.randn(9, 9, 8, device=DEVICE)
    plain, plain_gradients = features_and_gradients(network, graph, "plain", x)
    fused, gradients = features_and_gradients(network, graph, "triton", x)
    assert torch.allclose(plain, fused, atol=1e-4)
    scale = plain_gradients["x"].abs().max()
    assert torch.allclose(plain_gradients["x"] / scale, gradients["x"] / scale, atol=1e-4)


@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_autocast_is_near_full_precision(convolution):
    network, graph = encoder(torch.float32, convolution=convolution), graph_of((6, 3), torch.float32)
    x = torch.randn(9, 9, 8, device=DEVICE)
    exact, exact_gradients = features_and_gradients(network, graph, "plain", x)
    with torch.autocast(DEVICE, torch.bfloat16):
        fused, gradients = features_and_gradients(network, graph, "triton", x)
    assert 0 < (exact - fused).abs().max() < 0.05 * exact.abs().max()
    assert (exact_gradients["x"] - gradients["x"]).abs().max() < 0.05 * exact_gradients["x"].abs().max()


def test_edges_at_the_cutoff_and_nodes_without_neighbours():
    network, graph = encoder(), graph_of((3,))
    pos = torch.tensor([[0.0, 0.0, 0.0], [0.0, 5.0 - 1e-9, 0.0], [0.0, 0.0, 50.0]], dtype=torch.float64)
    graph = replace(graph, pos=pos.to(DEVICE))
    assert network.config.cutoff == 5.0
    x = torch.randn(3, 9, 8, dtype=torch.float64, device=DEVICE)
    plain, plain_gradients = features_and_gradients(network, graph, "plain", x)
    fused, gradients = features_and_gradients(network, graph, "triton", x)
    assert (plain - fused).abs().max() < 1e-11
    assert (plain_gradients["x"] - gradients["x"]).abs().max() < 1e-10


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language import float32
from molformer.kernels import triton_attention as kernels

sizes = {"M": 9, "C": 12, "CP": 16, "ACC": float32}
heads = {**sizes, "H": 3, "HP": 4, "NORM": True, "EPS": 1e-6}
pairs = {**sizes, "P": 6}
given = {"_rotate_in": pairs, "_rotate_back_to_senders": pairs, "_attend": heads, "_attend_backward": heads}
for name, constants in given.items():
    kernel = getattr(kernels, name)
    types = {"src": "*i64", "starts": "*i64", "pairs": "*i64"} | dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    values = {(kernel.arg_names.index(argument),): value for argument, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    assert len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]) > 0
"""


def test_the_kernels_compile_for_a_gpu(tmp_path):
    """For compute capability 9.0, by the compiler that Triton brings; no GPU is needed."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_many_edges_take_the_plain_path_in_chunks(monkeypatch):
    monkeypatch.setattr(fused_kernels, "rotate_in", lambda *args: pytest.fail("it needs memory for all edges"))
    monkeypatch.setattr(dispatch, "FUSED_NUMEL", 0)
    network, graph = encoder(), graph_of((6, 3))
    use_kernels(network, "triton")
    assert network(graph).isfinite().all()


def test_forces_take_the_plain_path(monkeypatch):
    monkeypatch.setattr(fused_kernels, "rotate_in", lambda *args: pytest.fail("it has no gradient of the frames"))
    targets = [Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")]
    model = PropertyModel(small_config(num_layers=1), targets).to(DEVICE, torch.float64)
    use_kernels(model.encoder, "triton")
    values = model(graph_of((6, 4)))
    values["forces"].square().sum().backward()
    assert values["forces"].isfinite().all()


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_a_processor_needs_no_fused_kernels(monkeypatch, kernels):
    monkeypatch.setattr(fused_kernels, "rotate_in", lambda *args: pytest.fail("there is no GPU"))
    network = encoder().cpu()
    use_kernels(network, kernels)
    assert network(graph_of((6, 3)).to("cpu")).isfinite().all()


def test_a_network_without_such_kernels_says_so():
    with pytest.raises(ConfigError, match="no Triton kernels"):
        use_kernels(PaperTransformer(preset("paper")), "triton")


def test_without_triton_one_is_told_what_is_needed(monkeypatch):
    monkeypatch.setattr("molformer.kernels.dispatch.has_triton", lambda: False)
    with pytest.raises(ConfigError, match="needs the package triton"):
        use_kernels(encoder(), "triton")
