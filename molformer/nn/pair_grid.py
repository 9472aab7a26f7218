"""The pairs of one small graph, as a prediction of a single molecule computes with them: in few operations.

With some ten atoms an operation takes longer to begin than to run. The frames of the edges therefore also stand in a
grid (N, N) of receivers and senders, with zeros where two nodes are too far apart. Turning is then one product for all
edges of a node, for its senders as for its receivers, and what a node receives is one sum. The softmax is an ordinary
one over the grid: pairs without an edge have no weight, and that of a node with itself, whose term is 0, is the 1 in
the denominator of `nn.attention.smooth_softmax`.

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
        at_receivers: frames of the edges into each node, senders in order: (N, N·M, M).
        at_senders: the same of the edges out of it, receivers in order.
        places: of each edge in the grid of receivers by senders (E,).
        mirrored: of each edge in the grid of senders by receivers (E,).
        dst: receivers (E,).
        features: functions of length and species (E, F).
        log_envelope: logarithm of the envelope (E, 1).
        terms: those of a softmax where there is no edge (N², 1).
    """

    at_receivers: Tensor
    at_senders: Tensor
    places: Tensor
    mirrored: Tensor
    dst: Tensor
    features: Tensor
    log_envelope: Tensor
    terms: Tensor

    @classmethod
    def of(cls, src: Tensor, dst: Tensor, num_nodes: int, frames: Tensor, features: Tensor, envelope: Tensor) -> Self:
        """From edges src → dst (E,), sorted, with frames (E, M, M), features (E, F) and envelopes (E,)."""
        places, size = dst * num_nodes + src, frames.shape[1]
        grid = frames.new_zeros(num_nodes**2, size, size).index_copy_(0, places, frames)
        grid = grid.view(num_nodes, num_nodes, size, size)
        terms = frames.new_full((num_nodes, num_nodes), -torch.inf).fill_diagonal_(0.0)
        return cls(
            at_receivers=grid.view(num_nodes, -1, size),
            at_senders=grid.transpose(0, 1).reshape(num_nodes, -1, size),
            places=places,
            mirrored=src * num_nodes + dst,
            dst=dst,
            features=features,
            log_envelope=envelope.log().unsqueeze(1),
            terms=terms.view(-1, 1),
        )

    def turn_in(self, x: Tensor) -> Tensor:
        """Features of the senders (N, M, C) in the frames of their edges (E, M, C)."""
        return torch.bmm(self.at_senders, x).view(-1, *x.shape[1:]).index_select(0, self.mirrored)

    def turn_in_at_dst(self, x: Tensor) -> Tensor:
        """Features of the receivers (N, M, C) in the frames of their edges (E, M, C)."""
        return torch.bmm(self.at_receivers, x).view(-1, *x.shape[1:]).index_select(0, self.places)

    def sum_turned_back(self, y: Tensor) -> Tensor:
        """Sum over the edges into each node of features in their frames (E, M, C), turned back: (N, M, C)."""
        nodes = len(self.at_receivers)
        grid = y.new_zeros(nodes * nodes, *y.shape[1:]).index_copy_(0, self.places, y)
        return torch.bmm(self.at_receivers.transpose(1, 2), grid.view(nodes, -1, y.shape[2]))

    def softmax(self, logits: Tensor) -> Tensor:
        """`smooth_softmax` of logits (E, H)."""
        nodes, heads = len(self.at_receivers), logits.shape[1]
        terms = self.terms.expand(-1, heads).index_copy(0, self.places, logits + self.log_envelope)
        weights = torch.softmax(terms.view(nodes, nodes, heads), dim=1)
        return weights.flatten(0, 1).index_select(0, self.places)
