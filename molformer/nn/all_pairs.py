"""All pairs of the nodes of one small graph: how a single molecule is predicted, in few operations.

With some ten atoms an operation takes longer to begin than to run. Where each node receives from all, what is a gather
or a scatter over a list of edges is a view or one batched product of a grid (N, N) of receivers and senders.

A node and itself are a pair too: with a frame of zeros its key and value vanish, and so does its logit. With the
envelope 1 it is then the 1 in the denominator of `nn.attention.smooth_softmax`, which an ordinary softmax over the
senders so becomes. Pairs beyond the cutoff have the envelope 0, and no weight.

Letters: N nodes, M = (lmax+1)² components, C channels, F edge features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_NODES = 32
"""Nodes of a graph up to which all pairs are faster than a list of those within the cutoff."""


@dataclass(frozen=True, eq=False)
class AllPairs:
    """Receivers by senders, with their frames; without gradients.

    Args:
        at_receivers: frames of all pairs of a receiver, one below the other, senders in order: (N, N·M, M).
        at_senders: the same of a sender, receivers in order.
        features: functions of length and species (N², F), receivers first.
        log_envelope: logarithm of each pair's envelope (N, N, 1).
    """

    at_receivers: Tensor
    at_senders: Tensor
    features: Tensor
    log_envelope: Tensor

    @classmethod
    def of(cls, frames: Tensor, features: Tensor, envelope: Tensor) -> "AllPairs":
        """From what a list of all pairs, sorted by receiver and then by sender, has.

        Args:
            frames: (N², M, M); written to.
            features: (N², F).
            envelope: (N²,).
        """
        nodes, size = round(len(envelope) ** 0.5), frames.shape[-1]
        grid = frames.view(nodes, nodes, size, size)
        grid.diagonal().zero_()
        log_envelope = envelope.log().view(nodes, nodes)
        log_envelope.fill_diagonal_(0.0)
        return cls(
            at_receivers=grid.view(nodes, -1, size),
            at_senders=grid.transpose(0, 1).reshape(nodes, -1, size),
            features=features,
            log_envelope=log_envelope.unsqueeze(-1),
        )

    def turn_in(self, x: Tensor) -> Tensor:
        """Features of the senders (N, M, C) in the frames of their pairs: (N², M, C)."""
        nodes, size, channels = x.shape
        turned = torch.bmm(self.at_senders, x).view(nodes, nodes, size, channels)
        return turned.transpose(0, 1).reshape(-1, size, channels)

    def turn_in_at_dst(self, x: Tensor) -> Tensor:
        """Features of the receivers (N, M, C) in the frames of their pairs: (N², M, C)."""
        return torch.bmm(self.at_receivers, x).view(-1, *x.shape[1:])

    def sum_turned_back(self, y: Tensor) -> Tensor:
        """Sum over the senders of features in the frames of the pairs (N², M, C), turned back: (N, M, C)."""
        nodes = len(self.log_envelope)
        return torch.bmm(self.at_receivers.transpose(1, 2), y.view(nodes, -1, y.shape[-1]))

    def softmax(self, logits: Tensor) -> Tensor:
        """`smooth_softmax` of logits (N, N, H), which are written to: (N², H)."""
        return torch.softmax(logits.add_(self.log_envelope), dim=1).flatten(0, 1)
