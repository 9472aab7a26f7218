"""SE3Attention: multi-head attention whose keys and values come through an equivariant kernel.

Fuchs et al. 2020 (arXiv 2006.10503), equation 10: with q_i = W_Q f_i, k_ij = W_K(x_ij) f_j, v_ij = W_V(x_ij) f_j,
    α_ij = softmax_j(q_i · k_ij),     f_i' = W_S f_i + Σ_j α_ij v_ij.
The product q·k runs over all degrees, so α is invariant, and all of it happens in the edge's frame. With `qk_norm` the
queries and keys of each head are first divided by their root mean square (Henry et al. 2020, arXiv 2010.04245), so that
the logits stay bounded however fast the weights grow.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, H heads.
"""

import importlib.util
import os
from collections.abc import Sequence
from functools import cache, partial
from math import log
from typing import Literal

import torch
from torch import Tensor, nn

from molformer.nn.edges import Edges
from molformer.nn.linear import DegreeLinear
from molformer.nn.prepared import Prepared
from molformer.nn.receive import received
from molformer.nn.so2 import EdgeConvolution

Kernels = Literal["auto", "plain", "triton"]
"""Operations of torch, or fused ones of a GPU: the same weights, the same results. `auto` takes the fused ones on a GPU
where they are worth it; `triton` wherever they can be had, in Triton's interpreter too."""

FUSED_NUMBERS = 1 << 28
"""Numbers of the largest tensor of all edges up to which the fused kernels, which know no chunks, are used."""

LEAST_EDGES_FUSED = 1 << 12
"""Edges from which on `auto` fuses a prediction: at their first use the kernels are compiled, which takes seconds."""

_FAINTEST = 1e-30
EPSILON = 1e-6
"""Added to the mean square of queries and keys that are normalised."""


def smooth_softmax(logits: Tensor, edges: Edges) -> Tensor:
    """Softmax over the edges into each node that lets an edge fade out at the cutoff.

    α_e = u_e exp(s_e) / (1 + Σ_e' u_e' exp(s_e')), u the envelope: with the constant in the denominator the last
    neighbour leaves smoothly too, and a node without neighbours receives nothing. The largest of the terms u exp(s) is
    subtracted, not the largest s: the sum is then at least 1, also where the edge of the largest s is about to leave.

    Args:
        logits: s (E, H).
        edges: for the receiving nodes and the envelope.

    Returns:
        Weights (E, H), between 0 and 1.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return edges.envelope[:, None] * _softmax_over_envelope(logits, edges)
    terms = logits + edges.log_envelope  # -∞ at the cutoff, where a derivative would be lost
    largest = _largest(terms, edges)
    exponential = terms.sub_(largest.index_select(0, edges.dst)).exp_()
    return exponential.div_(_total(exponential, largest, edges))


def _softmax_over_envelope(logits: Tensor, edges: Edges) -> Tensor:
    """α / u, which is there for an edge at the cutoff too; one without weight must not overflow."""
    envelope = edges.envelope.detach()[:, None]
    terms = torch.where(envelope > _FAINTEST, logits.detach() + envelope.clamp(min=_FAINTEST).log(), 0)
    largest = _largest(terms, edges)
    exponential = torch.exp((logits - largest.index_select(0, edges.dst)).clamp(max=-log(_FAINTEST)))
    return exponential / _total(edges.envelope[:, None] * exponential, largest, edges)


def _largest(terms: Tensor, edges: Edges) -> Tensor:
    """Largest of the terms s + ln u (E, H) into each node, and of 0, the constant's: (N, H)."""
    largest = terms.new_zeros(edges.num_nodes, terms.shape[1])
    return largest.scatter_reduce(0, edges.dst[:, None].expand_as(terms), terms, "amax")


def _total(exponential: Tensor, largest: Tensor, edges: Edges) -> Tensor:
    """The denominator, over the exponential of the largest term, for each edge (E, H)."""
    return (torch.exp(-largest) + edges.sum_at_dst(exponential)).index_select(0, edges.dst)


@cache
def has_triton() -> bool:
    """Whether Triton is installed, as it is with a torch build for CUDA."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, which needs no GPU; for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class SE3Attention(nn.Module):
    """Multi-head attention over the neighbours of each node.

    Args:
        lmax: highest degree of the features.
        channels: C of the nodes.
        num_heads: H.
        convolution: kernel with two outputs, the keys and the values, whose channels are a multiple of `num_heads`. One
            that takes fewer channels than C gets a linear map of the nodes' features.
        qk_norm: normalise queries and keys, with a learnt gain for each head.

    Returns (forward):
        Features (N, M, C).
    """

    heads: Tensor

    def __init__(
        self, lmax: int, channels: int, num_heads: int, convolution: EdgeConvolution, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.kernels: Kernels = "auto"
        self.num_heads = num_heads
        self.size = (lmax + 1) ** 2 * convolution.out_channels // num_heads
        self.gain = nn.Parameter(torch.ones(num_heads)) if qk_norm else None
        self.query = DegreeLinear(lmax, channels, convolution.out_channels)
        self.sender = (
            nn.Identity()
            if convolution.in_channels == channels
            else (DegreeLinear(lmax, channels, convolution.in_channels))
        )
        self.convolution = convolution
        self.output = DegreeLinear(lmax, convolution.out_channels, channels)
        self.self_interaction = DegreeLinear(lmax, channels, channels)
        heads = torch.eye(num_heads).repeat_interleave(convolution.out_channels // num_heads, dim=0)
        self.register_buffer("heads", heads, persistent=False)  # which channels a head has (C, H)
        self._prepared = Prepared()

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Attend: features (N, M, C) → (N, M, C)."""
        kernel = self.convolution
        sizes = kernel.numbers_per_edge, kernel.min_chunk
        senders, queries, own = self.projections(x)
        if self._can_fuse(edges):
            sums = self.attend_fused(senders, queries, edges)
        else:
            sums = received(self.attend, self.attend_backward, senders, queries, edges, kernel.tensors(), *sizes)
        return own + self.output(sums)

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is made of features (N, M, C) alone, in one product: those that are sent, q_i and W_S f_i."""
        maps = [self.query, self.self_interaction]
        if isinstance(self.sender, DegreeLinear):
            maps.append(self.sender)
        weights: list[Tensor] = [layer.weight for layer in maps]

        def joined() -> list[Tensor]:
            return [torch.cat(weights, dim=-1).index_select(0, self.query.degrees)]

        (weight,) = self._prepared(weights, joined)  # (M, C, Σ D)
        y = torch.bmm(x.transpose(0, 1), weight).split([layer.shape[-1] for layer in weights], dim=-1)
        queries, own, *senders = (part.transpose(0, 1) for part in y)
        # What is read for each edge is faster read in the order of the memory.
        return (senders[0] if senders else x).contiguous(), self.normalised(queries.contiguous()), own

    def attend_fused(self, senders: Tensor, queries: Tensor, edges: Edges) -> Tensor:
        """What `attend` gives, by the kernels of `nn.triton_attention`, from features of all nodes (N, M, C)."""
        from molformer.nn.triton_attention import attended, turned_in

        sent = self.convolution.stacked(partial(turned_in, senders, edges), edges)
        eps = None if self.gain is None else EPSILON
        return attended(queries, sent, edges, self.num_heads, self.size**-0.5, eps)

    def _can_fuse(self, edges: Edges) -> bool:
        """Whether the fused kernels have all that is needed: they give no gradient of the frames, as forces need it."""
        if self.kernels == "auto":
            many = len(edges.dst) >= LEAST_EDGES_FUSED and not torch.is_autocast_enabled("cuda")  # which was no faster
            worth = torch.is_grad_enabled() or many
            there = edges.dst.is_cuda and worth and has_triton()
        else:
            there = self.kernels == "triton" and (edges.dst.is_cuda or interpreted())
        dense = edges.frames.ndim == 3
        few = len(edges.dst) * self.convolution.numbers_per_edge <= FUSED_NUMBERS
        return there and dense and few and not edges.frames.requires_grad and not torch.compiler.is_compiling()

    def attend(
        self, x: Tensor, queries: Tensor, edges: Edges, *kernel: Tensor, kept: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 10 without the self-interaction.

        Args:
            x: features of the edges' senders f_j (E, M, C).
            queries: q_i (N, M, C).
            edges: E edges into N nodes.
            kernel: what `EdgeConvolution.tensors` gives.
            kept: where keys and values may be written.

        Returns:
            Σ_j α_ij v_ij (N, M, C), and the keys and values (E, M, C) in the edge frames.
        """
        keys, values = self.convolution.apply_to(edges.turn_in(x), edges.features, *kernel, out=kept)
        logits = self.logits(edges.turn_in_at_dst(queries), keys)
        weights = self.per_channel(self.softmax(logits, edges))  # (E, 1, C)
        return edges.sum_turned_back(weights * values), keys, values

    def normalised(self, queries: Tensor) -> Tensor:
        """Queries (N, M, C), normalised if keys are."""
        if self.gain is None:
            return queries
        return queries * self.per_channel(self.gain * self.inverse_size(queries))

    def logits(self, queries: Tensor, keys: Tensor) -> Tensor:
        """q_i · k_ij, scaled, (E, H) from queries and keys (E, M, C) in the edge frames."""
        logits = self.products(queries, keys)
        if self.gain is None:
            return logits * self.size**-0.5
        # 1/√n times the inverse size of the keys, 1/√(k²/n + ε)
        return logits * torch.rsqrt(self.products(keys, keys) + self.size * EPSILON)

    def products(self, x: Tensor, y: Tensor) -> Tensor:
        """Scalar products (E, H) of each head's part of x and y (E, M, C)."""
        return (x * y).sum(1) @ self.heads.to(x.dtype)

    def inverse_size(self, x: Tensor) -> Tensor:
        """One over the root mean square of each head's part of x (E, M, C): (E, H)."""
        return torch.rsqrt(self.products(x, x) / self.size + EPSILON)

    @staticmethod
    def softmax(logits: Tensor, edges: Edges) -> Tensor:
        """`smooth_softmax` in the precision of the envelope."""
        with torch.autocast(logits.device.type, enabled=False):
            return smooth_softmax(logits.to(edges.envelope.dtype), edges).to(logits.dtype)

    def per_channel(self, x: Tensor) -> Tensor:
        """Numbers of each head (E, H) for each channel (E, 1, C)."""
        channels = self.convolution.out_channels
        return x.unsqueeze(-1).expand(-1, -1, channels // self.num_heads).reshape(-1, 1, channels)

    def weights(self, x: Tensor, edges: Edges) -> Tensor:
        """Attention weights α (E, H) from features (N, M, C), to look at."""
        senders, queries, _ = self.projections(x)
        keys, _ = self.convolution(edges.turn_in(senders.index_select(0, edges.src)), edges)
        return self.softmax(self.logits(edges.turn_in_at_dst(queries), keys), edges)

    def attend_backward(
        self,
        grad: Tensor,
        kept: Sequence[Tensor],
        x: Tensor,
        queries: Tensor,
        edges: Edges,
        *kernel: Tensor,
        frames_too: bool,
    ) -> tuple[Tensor, ...]:
        """The derivative of `attend`, written out because it takes fewer passes than what autograd finds.

        Args:
            grad: with respect to the sum that `attend` gives (N, M, C).
            kept: keys and values from `attend`, or nothing to have them computed again.
            x: as in `attend`.
            queries: as in `attend`.
            edges: as in `attend`.
            kernel: as in `attend`.
            frames_too: give gradients of the frames and envelopes, which positions need and weights do not.

        Returns:
            Gradients of x, queries, frames, edge features, envelopes and kernel; without `frames_too` those of frames
            and envelopes are left out.
        """
        turned_x = edges.turn_in(x)
        (keys, values), pull_back = self.convolution.apply_and_pull_back(turned_x, edges.features, kernel, kept)
        turned_queries, turned_grad = edges.turn_in_at_dst(queries), edges.turn_in_at_dst(grad)
        logits = self.logits(turned_queries, keys)
        over_envelope = _softmax_over_envelope(logits, edges) if frames_too else None
        weights = smooth_softmax(logits, edges) if over_envelope is None else edges.envelope[:, None] * over_envelope

        # y = Σ α v:  ∂v = α ∂y,  ∂α = v·∂y;  of the softmax:  ∂s = α (∂α - Σ α ∂α);  s = q·k:  ∂q = k ∂s,  ∂k = q ∂s
        grad_weights = self.products(turned_grad, values)
        mean = edges.sum_at_dst(weights * grad_weights)
        centred = grad_weights - mean.index_select(0, edges.dst)
        grad_logits = weights * centred
        scaled = grad_logits * self.size**-0.5
        along_keys = None
        if self.gain is not None:  # s = q·k r, r = 1/√(ε + k²/n):  ∂k = q r ∂s - k s r² ∂s/n
            inverse = self.inverse_size(keys)
            along_keys = self.per_channel(grad_logits * logits * inverse.square() / -self.size)
            scaled = scaled * inverse
        scaled = self.per_channel(scaled)
        grad_queries = keys * scaled
        grad_keys = turned_queries.mul_(scaled)
        if along_keys is not None:
            grad_keys = grad_keys.addcmul_(keys, along_keys)
        channel_weights = self.per_channel(weights)
        grad_x, grad_features, *grad_kernel = pull_back(grad_keys, turned_grad.mul_(channel_weights))
        to_nodes = edges.turn_back(grad_x), edges.sum_turned_back(grad_queries)
        if over_envelope is None:
            return *to_nodes, grad_features, *grad_kernel
        at_dst = (grad_queries, queries), (values * channel_weights, grad)
        grad_frames = edges.frames_gradient([(grad_x, x)], at_dst)
        return *to_nodes, grad_frames, grad_features, (over_envelope * centred).sum(-1), *grad_kernel
