"""Heads: from node features to the values of one target, in its own unit.

Each head keeps the scale (and mean or per-element references) of its target as float64 buffers, so that a model
carries its units and total energies keep their digits. Letters: N nodes, B graphs, M components, C channels.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from molformer.elements import MAX_NUMBER
from molformer.so3 import wigner_3j

if TYPE_CHECKING:
    from molformer.graph import GraphBatch

Pooling = Literal["mean", "attention", "max"]
"""How nodes are pooled: the mean of their outputs, with learnt weights or without; or the maximum of each channel of
their features, before the readout (as in PointNet, Qi et al. 2017, arXiv 1612.00593)."""


class Head(nn.Module, ABC):
    """A readout with the statistics of its target.

    Args:
        channels: C.
        outputs: of the network, for each node.
    """

    scale: Tensor
    references: Tensor
    size: Tensor

    def __init__(self, channels: int, outputs: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, outputs))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("references", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64))
        self.register_buffer("size", torch.ones((), dtype=torch.float64))

    @abstractmethod
    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values in the target's unit, float64."""

    def set_statistics(self, scale: float, references: Tensor, size: float) -> None:
        """Set the statistics of the target, in its unit: typical deviation from its references, these for each element
        (MAX_NUMBER+1,), and typical number of nodes of a graph.
        """
        self.scale.fill_(scale)
        self.references.copy_(references)
        self.size.fill_(size)


class PooledHead(Head):
    """Scalars of a graph, pooled over its nodes.

    Args:
        channels: C.
        outputs: K.
        pooling: see `Pooling`.
        pool_first: with `mean` too, pool features before the readout, as the published SE(3)-Transformer does.
    """

    def __init__(self, channels: int, outputs: int, pooling: Pooling = "attention", pool_first: bool = False) -> None:
        super().__init__(channels, outputs + (pooling == "attention"))
        self.outputs = outputs
        self.pooling = pooling
        self.pool_first = (pool_first and pooling == "mean") or pooling == "max"
        if self.pool_first:
            self.net[1] = nn.ReLU()

    def read(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to scalars (B, K), float64."""
        if self.pool_first:
            pool = graph.max_over_graphs if self.pooling == "max" else graph.mean_over_graphs
            return self.net(pool(x[:, 0])).double()
        y = self.net(x[:, 0]).double()
        if self.pooling == "mean":
            return graph.mean_over_graphs(y)
        weight = node_weights(y[:, self.outputs :])
        return graph.sum_over_graphs(weight * y[:, : self.outputs]) / graph.sum_over_graphs(weight)


class ScalarHead(PooledHead):
    """One intensive scalar per graph: pooled outputs of the nodes plus the mean of the references of the elements."""

    def __init__(self, channels: int, pooling: Pooling = "attention", pool_first: bool = False) -> None:
        super().__init__(channels, 1, pooling, pool_first)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values (B,)."""
        reference = graph.mean_over_graphs(self.references.index_select(0, graph.numbers))
        return reference + self.scale * self.read(x, graph)[:, 0]

    def parts(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Contribution of each node (N,); their sum is the value minus the mean of the references of the elements."""
        y = self.net(x[:, 0]).double()
        weight = node_weights(y[:, 1:]) if y.shape[1] > 1 else torch.ones_like(y)
        return (self.scale * weight * y[:, :1] / graph.sum_over_graphs(weight)[graph.batch])[:, 0]


class ExtensiveHead(Head):
    """One extensive scalar per graph: a sum of node contributions and of references of the elements.

    The contribution of a node is in units of scale / size, so that their sum is of the order of the scale.
    """

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values (B,)."""
        return graph.sum_over_graphs(self.references.index_select(0, graph.numbers) + self.parts(x, graph))

    def parts(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Contribution of each node (N,); their sum is the value minus the sum of the references of the elements."""
        return self.scale / self.size * self.net(x[:, 0])[:, 0].double()


class VectorHead(Head):
    """One vector per graph, such as a dipole: Σ_i (v_i + q_i (r_i - r̄)) with the mean position r̄.

    v_i is a linear map of degree 1, gated by degree 0; q_i comes from degree 0. It is translation-invariant,
    as the dipole of charges q_i minus their mean.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels + 1)
        self.vector = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to vectors (B, 3), components x, y, z."""
        y = self.net(x[:, 0])
        vectors = (self.vector(x[:, 1:4]) * y[:, None, 1:]).sum(-1).double()  # (N, 3)
        pos = graph.pos.double()
        centered = pos - graph.mean_over_graphs(pos).index_select(0, graph.batch)
        return self.scale * graph.sum_over_graphs(vectors / x.shape[-1] ** 0.5 + y[:, :1].double() * centered)


class AtomVectorHead(Head):
    """One vector per node, such as a velocity or a force predicted directly: v_i = s Σ_c g_c(x_i⁰) (W x_i¹)_c / √C.

    x_i⁰ and x_i¹ are the features of degrees 0 and 1, g a network, W a linear map and s the scale of the target.

    Input vectors of the node, such as its velocity, are added with coefficients h_k(x_i⁰), so that uniform motion
    is easy to learn.

    It needs no graph, unless it is balanced or has inputs, and can be used alone. As the auxiliary task of Noisy Nodes
    (Godwin et al. 2021, arXiv 2106.07971; Zaidi et al. 2022, arXiv 2206.00133) it reads the noise from features of the
    noisy positions r_i + σ ε_i, with ε_i normal and of zero mean over the nodes of a graph: its loss is the mean of
    |v_i - ε_i|² over the nodes, with s = 1.

    Args:
        channels: C.
        balanced: subtract the mean of each graph, so that its vectors add up to zero, as forces do.
        inputs: number of input vectors of a node, see `NodeInputs`.

    Example:
        >>> AtomVectorHead(8)(torch.zeros(5, 9, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, channels: int, balanced: bool = False, inputs: int = 0) -> None:
        super().__init__(channels, channels + inputs)
        self.vector = nn.Linear(channels, channels, bias=False)
        self.balanced = balanced
        self.inputs = inputs

    def forward(self, x: Tensor, graph: "GraphBatch | None" = None) -> Tensor:
        """Features (N, M, C), M ≥ 4, to vectors (N, 3), components x, y, z."""
        gates, factors = self.net(x[:, 0]).split([x.shape[-1], self.inputs], dim=-1)
        vectors = (self.vector(x[:, 1:4]) * gates[:, None]).sum(-1).double() / x.shape[-1] ** 0.5
        if self.inputs:
            assert graph is not None
            assert graph.features is not None
            u = graph.features[:, : 3 * self.inputs].nan_to_num().unflatten(1, (self.inputs, 3))
            vectors = vectors + (factors[..., None] * u).sum(1)
        if self.balanced:
            assert graph is not None
            vectors = vectors - graph.mean_over_graphs(vectors)[graph.batch]
        return self.scale * vectors


class TensorHead(Head):
    """One symmetric 3×3 matrix per graph, such as a polarizability: Σ_i (a_i 1 + B(t_i)).

    a_i comes from degree 0, with references of the elements; t_i is a linear map of degree 2, gated by degree 0, and B
    its symmetric traceless matrix.
    """

    coupling: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels + 1)
        self.tensor = nn.Linear(channels, channels, bias=False)
        coupling = torch.as_tensor(wigner_3j(1, 1, 2), dtype=torch.float64)
        self.register_buffer("coupling", coupling, persistent=False)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to matrices (B, 3, 3), components x, y, z."""
        y = self.net(x[:, 0])
        traceless = (self.tensor(x[:, 4:9]) * y[:, None, 1:]).sum(-1).double() / x.shape[-1] ** 0.5  # (N, 5)
        matrices = torch.einsum("abm,nm->nab", self.coupling.double(), traceless)
        isotropic = self.references[graph.numbers] + self.scale / self.size * y[:, 0].double()
        identity = torch.eye(3, dtype=torch.float64, device=x.device)
        return graph.sum_over_graphs(isotropic[:, None, None] * identity + self.scale / self.size * matrices)


class AtomHead(Head):
    """One scalar per node."""

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to values (N,)."""
        return self.references[graph.numbers] + self.scale * self.net(x[:, 0])[:, 0].double()


class ClassHead(PooledHead):
    """Logits of the classes of a graph, pooled like an intensive scalar."""

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to logits (B, K), or (B,) if K is 1."""
        logits = self.read(x, graph)
        return logits[:, 0] if self.outputs == 1 else logits


class AtomClassHead(Head):
    """Logits of the classes of each node."""

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to logits (N, K)."""
        return self.net(x[:, 0]).double()


class ChargesHead(AtomHead):
    """One scalar per node, which sum to the total charge."""

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to charges (N,), e."""
        charges = super().forward(x, graph)
        excess = (graph.sum_over_graphs(charges) - graph.charge.double()) / graph.sizes
        return charges - excess[graph.batch]


def node_weights(scores: Tensor) -> Tensor:
    """Unnormalised weights of nodes; bounded, so that no maximum need be subtracted."""
    return torch.exp(5 * torch.tanh(scores / 5))
