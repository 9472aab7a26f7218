"""SE3Attention: multi-head attention whose keys and values an equivariant kernel computes.

Fuchs et al. 2020 (arXiv 2006.10503), equation 10: with q_i = W_Q f_i, k_ij = W_K(x_ij) f_j, v_ij = W_V(x_ij) f_j,
    α_ij = softmax_j(q_i · k_ij),     f_i' = W_S f_i + W_O Σ_j α_ij v_ij.
The product q·k runs over all degrees, so α is invariant. The kernels act in the edge's frame (see `nn.so2`).

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, D channels of keys and values, H heads.
"""

from math import log
from typing import Protocol

import torch
from torch import Tensor, nn

from molformer.nn.edges import FAINTEST, Edges
from molformer.nn.linear import DegreeLinear
from molformer.nn.so2 import EdgeConvolution

EPSILON = 1e-6  # added to the mean square of queries and keys that are normalised


class AttentionKernel(Protocol):
    """How the messages of an attention layer are computed; `attend` is the reference, others are in `kernels`."""

    def __call__(self, layer: "SE3Attention", queries: Tensor, sent: Tensor, edges: Edges) -> Tensor:
        """Σ_j α_ij v_ij (N, M, D) from queries (N, M, D) and sender features (N, M, C)."""


def attend(layer: "SE3Attention", queries: Tensor, sent: Tensor, edges: Edges) -> Tensor:
    """The reference: keys and values of all edges from f_j (N, M, C), softmax over those into each node with q_i (N, M,
    D), normalised and scaled; Σ_j α_ij v_ij (N, M, D).
    """
    return layer.aggregate(queries, *layer.keys_and_values(sent, edges), edges)


class SE3Attention(nn.Module):
    """Multi-head attention over the neighbors of each node: features (N, M, C) → (N, M, C).

    With `qk_norm` the queries and keys of each head are divided by their root mean square (Henry et al. 2020, arXiv
    2010.04245), so that the logits stay bounded however fast the weights grow.

    Args:
        lmax: highest degree of the features.
        channels: C of the nodes.
        num_heads: H.
        convolution: kernel with two outputs, the keys and the values, whose channels are a multiple of `num_heads`. One
            that takes fewer channels than C gets a linear map of the node features.
        qk_norm: normalise queries and keys, with a learnt gain for each head.
        kernel: how the messages are computed; the result is that of `attend`.
    """

    heads: Tensor

    def __init__(
        self,
        lmax: int,
        channels: int,
        num_heads: int,
        convolution: EdgeConvolution,
        qk_norm: bool = False,
        kernel: AttentionKernel = attend,
    ) -> None:
        super().__init__()
        attended = convolution.out_channels
        self.num_heads = num_heads
        self.size = (lmax + 1) ** 2 * attended // num_heads
        self.gain = nn.Parameter(torch.ones(num_heads)) if qk_norm else None
        self.query = DegreeLinear(lmax, channels, attended)
        narrow = convolution.in_channels != channels
        self.sender = DegreeLinear(lmax, channels, convolution.in_channels) if narrow else nn.Identity()
        self.convolution = convolution
        self.output = DegreeLinear(lmax, attended, channels)
        self.self_interaction = DegreeLinear(lmax, channels, channels)
        self.kernel = kernel
        heads = torch.eye(num_heads).repeat_interleave(attended // num_heads, dim=0)
        self.register_buffer("heads", heads, persistent=False)  # which channels belong to a head (D, H)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Attend: features (N, M, C) → (N, M, C)."""
        messages = self.kernel(self, self.queries(x), self.sender(x), edges)
        return self.self_interaction(x) + self.output(messages)

    def queries(self, x: Tensor) -> Tensor:
        """q_i / √n (N, M, D), n the components of a head; with `qk_norm` divided by their root mean square too."""
        queries = self.query(x) * self.size**-0.5
        if self.gain is None:
            return queries
        return queries * self.per_channel(self.gain * self.inverse_rms(queries * self.size**0.5))

    def keys_and_values(self, sent: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """k_ij = W_K(x_ij) f_j and v_ij = W_V(x_ij) f_j, (E, M, D) each, of sender features (N, M, C)."""
        framed = edges.rotate_in(sent.index_select(0, edges.src))
        keys, values = edges.rotate_out(self.convolution(framed, edges.features)).chunk(2, dim=-1)
        return keys, values

    def aggregate(self, queries: Tensor, keys: Tensor, values: Tensor, edges: Edges) -> Tensor:
        """Σ_j α_ij v_ij (N, M, D) of queries (N, M, D), and keys and values of the edges (E, M, D)."""
        weights = self.weights(queries.index_select(0, edges.dst), keys, edges)
        return edges.sum_at_dst(self.per_channel(weights) * values)

    def weights(self, queries: Tensor, keys: Tensor, edges: Edges) -> Tensor:
        """α_ij (E, H) of the receivers' queries and the keys, (E, M, D) each."""
        logits = self.head_sums(queries * keys)
        return smooth_softmax(logits if self.gain is None else logits * self.inverse_rms(keys), edges)

    def inverse_rms(self, x: Tensor) -> Tensor:
        """One over the root mean square of each head's part of x (E, M, D): (E, H)."""
        return torch.rsqrt(self.head_sums(x.square()) / self.size + EPSILON)

    def head_sums(self, x: Tensor) -> Tensor:
        """Sums over the components and channels of each head, (E, M, D) to (E, H)."""
        return x.sum(1) @ self.heads.to(x.dtype)

    def per_channel(self, x: Tensor) -> Tensor:
        """Values of each head (E, H) repeated for each of its channels (E, 1, D)."""
        return x.repeat_interleave(self.convolution.out_channels // self.num_heads, dim=1)[:, None]


def smooth_softmax(logits: Tensor, edges: Edges) -> Tensor:
    """Softmax over the edges into each node, smooth as an edge crosses the cutoff.

    α_e = u_e exp(s_e) / (1 + Σ_e' u_e' exp(s_e')), u the envelope: the constant in the denominator
    keeps it smooth for the last neighbor too, and gives a node without neighbors a message of zero.

    Args:
        logits: s (E, H).
        edges: for the receiving nodes and the envelope.

    Returns:
        Weights (E, H), between 0 and 1.
    """
    dtype = logits.dtype
    logits, envelope = logits.to(edges.envelope.dtype), edges.envelope[:, None]
    # The largest of the terms ln(u exp s) and of 0, the constant's, is subtracted: then the denominator is at least 1.
    terms = logits.detach() + edges.log_envelope
    top = terms.new_zeros(edges.num_nodes, terms.shape[1])
    top = top.scatter_reduce(0, edges.dst[:, None].expand_as(terms), terms, "amax")
    # An edge at the cutoff has no weight, however large its logit; it must not overflow.
    exponential = envelope * torch.exp((logits - top.index_select(0, edges.dst)).clamp(max=-log(FAINTEST)))
    total = torch.exp(-top) + edges.sum_at_dst(exponential)
    return (exponential / total.index_select(0, edges.dst)).to(dtype)
