"""SE3Attention: multi-head attention whose keys and values come through an equivariant kernel.

Fuchs et al. 2020 (arXiv 2006.10503), equation 10: with q_i = W_Q f_i, k_ij = W_K(x_ij) f_j, v_ij = W_V(x_ij) f_j,
    α_ij = softmax_j(q_i · k_ij),     f_i' = W_S f_i + Σ_j α_ij v_ij.
The product q·k runs over all degrees, so α is invariant, and all of it happens in the edge's frame.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, H heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from molformer.nn.edges import Edges
from molformer.nn.linear import DegreeLinear
from molformer.nn.so2 import EdgeConvolution


def smooth_softmax(logits: Tensor, edges: Edges) -> Tensor:
    """Softmax over the edges into each node that lets an edge fade out at the cutoff.

    α_e = u_e exp(s_e) / (1 + Σ_e' u_e' exp(s_e')), u the envelope: with the constant in the denominator the last
    neighbour leaves smoothly too, and a node without neighbours receives nothing.

    Args:
        logits: s (E, H).
        edges: for the receiving nodes and the envelope.

    Returns:
        Weights (E, H), between 0 and 1.
    """
    nodes = edges.dst[:, None].expand_as(logits)
    largest = logits.new_zeros(edges.num_nodes, logits.shape[1])
    largest = largest.scatter_reduce(0, nodes, logits.detach(), "amax")  # at least 0, the constant's logit
    weight = edges.envelope[:, None] * torch.exp(logits - largest.index_select(0, edges.dst))
    total = torch.exp(-largest) + edges.sum_at_dst(weight)
    return weight / total.index_select(0, edges.dst)


class SE3Attention(nn.Module):
    """Multi-head attention over the neighbours of each node.

    Args:
        lmax: highest degree of the features.
        channels: C, a multiple of `num_heads`.
        num_heads: H.
        convolution: kernel from C to C channels with two outputs, the keys and the values.

    Returns (forward):
        Features (N, M, C).
    """

    def __init__(self, lmax: int, channels: int, num_heads: int, convolution: EdgeConvolution) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = DegreeLinear(lmax, channels, channels)
        self.convolution = convolution
        self.output = DegreeLinear(lmax, channels, channels)
        self.self_interaction = DegreeLinear(lmax, channels, channels)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Attend: features (N, M, C) → (N, M, C)."""
        kernel, numbers = self.convolution.tensors(), self.convolution.numbers_per_edge
        received = edges.received(self.attend, x, self.query(x), kernel, numbers)
        return self.output(received) + self.self_interaction(x)

    def attend(self, x: Tensor, queries: Tensor, edges: Edges, *kernel: Tensor) -> Tensor:
        """Σ_j α_ij v_ij, from the features of the edges' senders (E, M, C) and the queries (N, M, C): (N, M, C)."""
        keys, values = self.convolution.by_order(edges.turn_in(x), edges.features, *kernel)
        weights = self.weights(queries, keys, edges).repeat_interleave(x.shape[-1] // self.num_heads, dim=-1)  # (E, C)
        messages = edges.turn_back(torch.cat([value * weights[:, None] for value in values], dim=1))
        return edges.sum_at_dst(messages)

    def weights(self, queries: Tensor, keys: Sequence[Tensor], edges: Edges) -> Tensor:
        """Attention weights α (E, H) from queries (N, M, C) and keys in the edge frames, (E, …, C) for each |m|."""
        turned = edges.turn_in(queries.index_select(0, edges.dst)).split([key.shape[1] for key in keys], dim=1)
        products = sum((query * key).sum(1) for query, key in zip(turned, keys, strict=True))  # (E, C)
        logits = products.unflatten(-1, (self.num_heads, -1)).sum(-1)  # (E, H)
        size = queries.shape[1] * queries.shape[2] // self.num_heads
        with torch.autocast(logits.device.type, enabled=False):
            return smooth_softmax(logits.to(edges.envelope.dtype) * size**-0.5, edges).to(queries.dtype)

    def weights_of(self, x: Tensor, edges: Edges) -> Tensor:
        """Attention weights α (E, H) from features (N, M, C), to look at."""
        turned = edges.turn_in(x.index_select(0, edges.src))
        keys, _ = self.convolution.by_order(turned, edges.features, *self.convolution.tensors())
        return self.weights(self.query(x), keys, edges)
