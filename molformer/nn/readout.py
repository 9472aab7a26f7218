"""Heads: from node features to the values of one target, in its own unit.

Each head keeps the scale (and mean or per-element references) of its target as float64 buffers, so that a model
carries its units and total energies keep their digits. Letters: N nodes, B graphs, M components, C channels.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from molformer.elements import MAX_NUMBER

if TYPE_CHECKING:
    from molformer.data.graph import GraphBatch

Pooling = Literal["mean", "attention"]


class Head(nn.Module, ABC):
    """A readout with the statistics of its target.

    Args:
        channels: C.
        outputs: numbers that the network gives for each node.
    """

    scale: Tensor
    references: Tensor
    size: Tensor

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, outputs))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("references", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64))
        self.register_buffer("size", torch.ones((), dtype=torch.float64))

    @abstractmethod
    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values in the target's unit, float64."""

    def set_statistics(self, scale: float, references: Tensor, size: float) -> None:
        """Tell the head what its target looks like.

        Args:
            scale: typical deviation of the target from its references, in its unit.
            references: value of each element (MAX_NUMBER+1,), in the target's unit.
            size: typical number of nodes of a graph.
        """
        self.scale.fill_(scale)
        self.references.copy_(references)
        self.size.fill_(size)


class ScalarHead(Head):
    """One intensive number a graph: a mean of node values and of references of the elements.

    Args:
        channels: C.
        pooling: `mean` over the nodes, or `attention`, a mean with learnt weights.
    """

    def __init__(self, channels: int, pooling: Pooling = "attention") -> None:
        super().__init__(channels, 2 if pooling == "attention" else 1)
        self.pooling = pooling

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values (B,)."""
        y = self.net(x[:, 0]).double()
        reference = graph.mean_over_graphs(self.references[graph.numbers])
        if self.pooling == "mean":
            return reference + self.scale * graph.mean_over_graphs(y[:, 0])
        weight = torch.exp(5 * torch.tanh(y[:, 1] / 5))  # bounded, so that no maximum need be subtracted
        return reference + self.scale * graph.sum_over_graphs(weight * y[:, 0]) / graph.sum_over_graphs(weight)


class ExtensiveHead(Head):
    """One extensive number a graph: a sum of node values and of references of the elements.

    The network's part of a node is in units of scale / size, so that a graph's is of the order of the scale.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values (B,)."""
        y = self.net(x[:, 0])[:, 0].double()
        return graph.sum_over_graphs(self.references[graph.numbers] + self.scale / self.size * y)


class VectorHead(Head):
    """One vector a graph, such as a dipole: Σ_i (v_i + q_i r_i), with Σ_i q_i = 0 so that it does not move.

    v_i is a linear map of degree 1, gated by degree 0; q_i comes from degree 0.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels + 1)
        self.vector = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to vectors (B, 3), components x, y, z."""
        y = self.net(x[:, 0])
        vectors = (self.vector(x[:, 1:4]) * y[:, None, 1:]).sum(-1).double()  # (N, 3)
        charges = y[:, 0].double()
        charges = charges - graph.mean_over_graphs(charges)[graph.batch]
        pos = graph.pos.double()
        arms = pos - graph.mean_over_graphs(pos)[graph.batch]
        return self.scale * graph.sum_over_graphs(vectors / x.shape[-1] ** 0.5 + charges[:, None] * arms)


class ChargesHead(Head):
    """One number a node whose sum is the total charge.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to charges (N,), e."""
        charges = self.references[graph.numbers] + self.scale * self.net(x[:, 0])[:, 0].double()
        excess = (graph.sum_over_graphs(charges) - graph.charge.double()) / graph.sizes
        return charges - excess[graph.batch]
