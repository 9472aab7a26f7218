"""Which kernel computes the messages of an attention layer: the one place that looks at device, gradients and size.

All kernels take the same weights and give the result of the reference, `nn.attention.attend`:
    reference   plain torch; derivatives of every order, hooks and layers of any kind;
    memory      the reference on a chunk of receivers at a time, in a fraction of the memory;
    triton      fused kernels for a GPU; first derivatives, not with respect to positions.
"""

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from molformer.errors import ConfigError
from molformer.kernels.memory import chunked
from molformer.nn.attention import SE3Attention, attend
from molformer.nn.edges import Edges
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.so2 import SeparableConvolution

Kernels = Literal["auto", "plain", "triton"]
"""Operations of torch, or fused ones of a GPU: the same weights, the same results. `auto` takes the fused ones on a GPU
where they pay; `triton` wherever they are available, in Triton's interpreter too."""

FUSED_NUMEL = 1 << 28  # size of the largest tensor of all edges up to which the fused kernels are used, without chunks
LEAST_EDGES_FUSED = 1 << 12  # edges from which on `auto` fuses a prediction: to compile the kernels takes seconds
CHUNK_NUMEL_ON_GPU = 1 << 27  # size of the largest tensor of a chunk on a GPU
MOST_CHUNK_NUMEL = 1 << 23  # the same on a processor, however large its caches are: a chunk makes a dozen such tensors
LEAST_CHUNK = 512  # edges: products with fewer rows are slow, and gradients of weights are summed once a chunk
WHOLE_NUMEL = 1 << 22  # size of the largest tensor of all edges up to which a processor takes them at once in training
L2_CACHE = 1 << 20  # bytes for each core where the processor does not say


@dataclass(frozen=True)
class Dispatcher:
    """Chooses the kernel for the messages; an `nn.attention.AttentionKernel`. For its choice see `Kernels`."""

    choice: Kernels = "auto"

    def __call__(self, layer: SE3Attention, queries: Tensor, sent: Tensor, edges: Edges) -> Tensor:
        """See `nn.attention.attend`."""
        if torch.compiler.is_compiling() or not is_plain(layer):
            return attend(layer, queries, sent, edges)
        numel = numel_per_edge(layer)
        if self._fuses(edges, numel):
            from molformer.kernels.triton_attention import fused

            return fused(layer, queries, sent, edges)
        size = chunk_size(layer, sent.device.type)
        whole = WHOLE_NUMEL if torch.is_grad_enabled() and sent.device.type == "cpu" else 0
        if len(edges.src) <= max(size, whole // numel):
            return attend(layer, queries, sent, edges)
        return chunked(layer, queries, sent, edges, size)

    def _fuses(self, edges: Edges, numel: int) -> bool:
        """Whether the fused kernels apply: they give no gradient of the frames, which forces need."""
        if self.choice == "auto":
            many = len(edges.dst) >= LEAST_EDGES_FUSED and not torch.is_autocast_enabled("cuda")  # which was no faster
            there = edges.dst.is_cuda and (torch.is_grad_enabled() or many) and has_triton()
        else:
            there = self.choice == "triton" and (edges.dst.is_cuda or interpreted())
        few = len(edges.dst) * numel <= FUSED_NUMEL
        return there and edges.wigner.shape[1] <= 16 and few and not edges.wigner.requires_grad


def is_plain(layer: SE3Attention) -> bool:
    """Whether kernels can replace `attend`: no subclass, no other convolution, no hooks on it."""
    convolution = layer.convolution
    if type(layer) is not SE3Attention or type(convolution) not in (SeparableConvolution, FullConvolution):
        return False
    return not (convolution._forward_hooks or convolution._forward_pre_hooks or convolution._backward_hooks)


def numel_per_edge(layer: SE3Attention) -> int:
    """Size of the keys and values of an edge, and of the largest tensor that a full kernel makes of it."""
    convolution = layer.convolution
    components = (convolution.lmax + 1) ** 2
    outer = convolution.a[0].shape[0] * (convolution.lmax + 1) * convolution.in_channels  # h ⊗ x of m = 0
    return max(components * convolution.outputs * convolution.out_channels, outer)


def chunk_size(layer: SE3Attention, device: str) -> int:
    """Edges of a chunk of the memory kernel."""
    return max(LEAST_CHUNK, chunk_numel(device) // numel_per_edge(layer))


def chunk_numel(device: str) -> int:
    """Size that the largest tensor of a chunk may have: on a processor about what its cores' caches hold."""
    if device != "cpu":
        return CHUNK_NUMEL_ON_GPU
    return min(torch.get_num_threads() * _l2_cache() * 2 // 4, MOST_CHUNK_NUMEL)


@cache
def _l2_cache() -> int:
    if not hasattr(torch.cpu, "get_capabilities"):  # an older version of torch
        return L2_CACHE
    return torch.cpu.get_capabilities().get("l2_cache_size") or L2_CACHE


@cache
def has_triton() -> bool:
    """Whether Triton is installed, as it is with a torch build for CUDA."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, which needs no GPU; for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_kernels(network: nn.Module, choice: Kernels) -> None:
    """Choose how the attention of a network is computed; weights and results are the same.

    Where a fused kernel does not apply, as for gradients with respect to positions, degrees beyond 3 or more edges than
    one pass takes, another kernel is used. `auto` is the default.

    Raises:
        ConfigError: `triton` is chosen, and Triton or a GPU is missing, or this network has no such attention.
    """
    layers = [module for module in network.modules() if isinstance(module, SE3Attention)]
    if choice == "triton":
        if not layers:
            raise ConfigError("kernels: this network has no Triton kernels")
        if not has_triton():
            raise ConfigError("kernels: triton needs the package triton, which a torch build with CUDA brings")
        if not (torch.cuda.is_available() or interpreted()):
            raise ConfigError("kernels: triton needs a GPU, and torch finds none here")
    for layer in layers:
        layer.kernel = Dispatcher(choice)
