"""The pairs of one small graph, as a prediction of a single molecule computes with them: in few operations.

With some ten atoms an operation takes longer to begin than to run. Only the kernel is applied to a list of edges; all
else is done on the grid (N, N) of receivers and senders, where turning is one product for all edges of a node, the sum
over its neighbours another, and the softmax an ordinary one. A pair without an edge is there with some edge's numbers
and the term -∞, so that its weight is 0. A node and itself are a pair with a frame of zeros and the term 0: that is the
1 in the denominator of `nn.attention.smooth_softmax`.

Letters: N nodes, E edges sorted by receiver and then by sender, M = (lmax+1)² components, C channels, F edge features,
H heads.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MOST_NODES = 40
"""Nodes of a graph up to which a prediction is faster so."""


@dataclass(frozen=True, eq=False)
class PairGrid:
    """Edges of one graph in a grid; without gradients.

    Args:
        at_receivers: frames of the pairs of each receiver, senders in order: (N, N·M, M).
        at_senders: the same of each sender, receivers in order.
        mirrored: place of each edge in the grid of senders by receivers (E,).
        edges: the edge at each place of the grid of receivers by senders, or another one where there is none (N²,).
        features: functions of length and species (E, F).
        terms: logarithm of the envelope (N, N, 1); -∞ where there is no edge, 0 of a node with itself.
    """

    at_receivers: Tensor
    at_senders: Tensor
    mirrored: Tensor
    edges: Tensor
    features: Tensor
    terms: Tensor

    @classmethod
    def of(cls, near: Tensor, mirrored: Tensor, frames: Tensor, features: Tensor, envelope: Tensor) -> Self:
        """From the edges of a graph that has some.

        Args:
            near: which pairs are edges (N, N), receivers first.
            mirrored: see above (E,).
            frames: (E, M, M).
            features: (E, F).
            envelope: (E,).
        """
        nodes, size = len(near), frames.shape[1]
        edges = (near.flatten().cumsum(0) - 1).clamp_(min=0)
        grid = frames.index_select(0, edges).view(nodes, nodes, size, size)
        grid.diagonal().zero_()
        terms = envelope.log().index_select(0, edges).view(nodes, nodes)
        terms = torch.where(near, terms, -torch.inf).fill_diagonal_(0.0)
        return cls(
            at_receivers=grid.view(nodes, -1, size),
            at_senders=grid.transpose(0, 1).reshape(nodes, -1, size),
            mirrored=mirrored,
            edges=edges,
            features=features,
            terms=terms.unsqueeze(-1),
        )

    def turn_in(self, x: Tensor) -> Tensor:
        """Features of the senders (N, M, C) in the frames of the edges (E, M, C)."""
        return torch.bmm(self.at_senders, x).view(-1, *x.shape[1:]).index_select(0, self.mirrored)

    def turn_in_at_dst(self, x: Tensor) -> Tensor:
        """Features of the receivers (N, M, C) in the frames of the pairs (N², M, C)."""
        return torch.bmm(self.at_receivers, x).view(-1, *x.shape[1:])

    def weights(self, logits: Tensor) -> Tensor:
        """`smooth_softmax` of the logits of pairs (N, N, H), which are written to, over the senders: (N², H)."""
        return torch.softmax(logits.add_(self.terms), dim=1).flatten(0, 1)

    def sum_turned_back(self, y: Tensor) -> Tensor:
        """Sum over the senders of features in the frames of the pairs (N², M, C), turned back: (N, M, C)."""
        nodes, _, size = self.at_receivers.shape
        return torch.bmm(self.at_receivers.transpose(1, 2), y.view(nodes, nodes * size, -1))
