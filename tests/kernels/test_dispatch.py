"""Which kernel is chosen, decided without a GPU from tensors that only have a size and a device."""

from types import SimpleNamespace

import pytest
import torch

from molformer.kernels import Dispatcher, dispatch
from molformer.nn.attention import SE3Attention
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.so2 import SeparableConvolution

NUMEL = 9 * 2 * 8
FEWEST, MOST = dispatch.LEAST_EDGES_FUSED, dispatch.FUSED_NUMEL // NUMEL


class Sized:
    def __init__(self, *shape, is_cuda=False, requires_grad=False):
        self.shape, self.is_cuda, self.requires_grad = shape, is_cuda, requires_grad

    def __len__(self):
        return self.shape[0]


def edges_of(count, cuda=True, components=9, positions=False):
    rows = Sized(count, is_cuda=cuda)
    return SimpleNamespace(src=rows, dst=rows, wigner=Sized(count, components, components, requires_grad=positions))


@pytest.mark.parametrize(
    ("fused", "choice", "grad", "edges", "world"),
    [
        (True, "auto", True, edges_of(1), {}),
        (False, "plain", True, edges_of(1), {}),
        (True, "triton", True, edges_of(1), {}),
        (False, "auto", True, edges_of(FEWEST, cuda=False), {"interpreted": True}),
        (False, "plain", True, edges_of(1, cuda=False), {"interpreted": True}),
        (True, "triton", True, edges_of(1, cuda=False), {"interpreted": True}),
        (False, "triton", True, edges_of(1, cuda=False), {}),
        (False, "auto", True, edges_of(1), {"has_triton": False}),
        (True, "auto", True, edges_of(1, components=16), {}),
        (False, "auto", True, edges_of(1, components=25), {}),
        (False, "triton", True, edges_of(1, positions=True), {}),
        (True, "auto", True, edges_of(MOST), {}),
        (False, "triton", True, edges_of(MOST + 1), {}),
        (True, "auto", False, edges_of(FEWEST), {}),
        (False, "auto", False, edges_of(FEWEST - 1), {}),
        (True, "triton", False, edges_of(FEWEST - 1), {}),
        (False, "auto", False, edges_of(FEWEST), {"autocast": True}),
        (True, "auto", True, edges_of(FEWEST), {"autocast": True}),
    ],
)
def test_when_kernels_are_fused(monkeypatch, fused, choice, grad, edges, world):
    monkeypatch.setattr(dispatch, "has_triton", lambda: world.get("has_triton", True))
    monkeypatch.setattr(dispatch, "interpreted", lambda: world.get("interpreted", False))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: world.get("autocast", False))
    with torch.set_grad_enabled(grad):
        assert Dispatcher(choice)._fuses(edges, NUMEL) is fused


def layer_with(convolution, **sizes):
    return SE3Attention(2, 8, 2, convolution(2, 8, 8, 16, "SE(3)", outputs=2, **sizes))


def test_numel_is_that_of_keys_and_values_or_of_the_outer_product():
    assert dispatch.numel_per_edge(layer_with(SeparableConvolution)) == NUMEL
    assert dispatch.numel_per_edge(layer_with(FullConvolution, radial=32)) == 32 * 3 * 8


@pytest.mark.parametrize(
    ("count", "grad", "chosen"),
    [(1000, False, "attend"), (1001, False, "chunked"), (2000, True, "attend"), (2001, True, "chunked")],
)
def test_when_a_processor_takes_chunks(monkeypatch, count, grad, chosen):
    monkeypatch.setattr(dispatch, "chunk_numel", lambda device: 1000 * NUMEL)
    monkeypatch.setattr(dispatch, "WHOLE_NUMEL", 2000 * NUMEL)
    for name in ("attend", "chunked"):
        monkeypatch.setattr(dispatch, name, lambda *arguments, name=name: (name, *arguments[4:]))
    with torch.set_grad_enabled(grad):
        found = Dispatcher()(layer_with(SeparableConvolution), None, torch.empty(0), edges_of(count, cuda=False))
    assert found == ((chosen,) if chosen == "attend" else (chosen, 1000))


def test_chunks_are_as_large_as_caches(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(dispatch, "_l2_cache", lambda: 1 << 20)
    assert dispatch.chunk_numel("cpu") == 1 << 20  # numbers of 4 bytes in half of the caches of two cores
    assert dispatch.chunk_numel("cuda") == dispatch.CHUNK_NUMEL_ON_GPU
    monkeypatch.setattr(dispatch, "_l2_cache", lambda: 1 << 30)
    assert dispatch.chunk_numel("cpu") == dispatch.MOST_CHUNK_NUMEL
