"""Heads for moments of the charge of a molecule: the length of a dipole, ⟨r²⟩ and polarizabilities.

Node i has charge q_i and scalar s_i, from features of degree 0, and vector v_i, from degree 1; d_i = r_i - c is its
position relative to the centre c of nuclear charge. As in PaiNN (Schütt et al. 2021, arXiv 2102.03150), to which the
tensor adds features of degree 2, and ⟨r²⟩ the middle term, which is that of atomic dipoles:
    |μ| = |Σ_i (v_i + q_i d_i)|,   ⟨r²⟩ = Σ_i (s_i + v_i·d_i + q_i |d_i|²),   α = Σ_i (s_i 1 + v_i d_iᵀ + d_i v_iᵀ + …).
Letters: N nodes, B graphs, M components, C channels.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molformer.nn.readout import AtomVectorHead, ExtensiveHead, Head, TensorHead

if TYPE_CHECKING:
    from molformer.graph import GraphBatch

SMALL = 1e-6
"""Length, in units of the scale of a target, below which the length of a vector is quadratic in its components."""


def centred(graph: "GraphBatch") -> Tensor:
    """Positions (N, 3) relative to the centre of nuclear charge of their graph, Å, float64.

    QM9's ⟨r²⟩ is about this point, the origin of Gaussian's standard orientation. A point that is no atom counts as 1.
    """
    pos, weight = graph.pos.double(), graph.numbers.clamp(min=1).double()[:, None]
    centre = graph.sum_over_graphs(weight * pos) / graph.sum_over_graphs(weight)
    return pos - centre.index_select(0, graph.batch)


class VectorLengthHead(Head):
    """Length of a vector per graph, |μ| with μ = s Σ_i (v_i + q_i d_i), such as a dipole's; s is the scale.

    Charges have zero mean in a graph, so that the centre does not matter: the dipole of an ion is about the mean
    position. μ is equivariant: its length is zero where symmetry requires, inversion included if `group` is E(3).
    |μ| is computed as μ·μ / (√(μ·μ + ε²) + ε), which has all derivatives at zero.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.vectors = AtomVectorHead(channels)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to lengths (B,)."""
        return graph.sum_over_graphs(self.parts(x, graph))

    def parts(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Component of the vector of each node along μ (N,); their sum is the length."""
        charges = self.net(x[:, 0]).double()
        charges = charges - graph.mean_over_graphs(charges).index_select(0, graph.batch)
        vectors = self.vectors(x) + charges * centred(graph)
        total = graph.sum_over_graphs(vectors)
        direction = total / ((total.square().sum(-1, keepdim=True) + SMALL**2).sqrt() + SMALL)
        return self.scale * (vectors * direction.index_select(0, graph.batch)).sum(-1)


class IsotropicTensorHead(ExtensiveHead):
    """A third of the trace of the tensor of `NonlocalTensorHead` per graph: Σ_i (s_i + v_i·d_i), the rest has none."""

    def __init__(self, channels: int, outputs: int = 1) -> None:
        super().__init__(channels, outputs)
        self.vectors = AtomVectorHead(channels)

    def parts(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Contribution of each node (N,); their sum is the value minus the sum of the references of the elements."""
        return super().parts(x, graph) + self.scale / self.size * (self.vectors(x) * centred(graph)).sum(-1)


class SpatialExtentHead(IsotropicTensorHead):
    """Electronic spatial extent ⟨r²⟩ per graph: Σ_i (s_i + v_i·d_i + q_i |d_i|²), with references of s_i and q_i."""

    charges: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2)
        self.register_buffer("charges", torch.zeros_like(self.references))

    def set_statistics(self, scale: float, references: Tensor, size: float) -> None:
        """As for all heads, but references (2, Z) of s_i and, in the target's unit over Å², of q_i."""
        super().set_statistics(scale, references[0], size)
        self.charges.copy_(references[1])

    def parts(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Contribution of each node (N,); their sum is the value minus the sum of the references of s_i."""
        charges = self.charges[graph.numbers] + self.scale / self.size * self.net(x[:, 0])[:, 1].double()
        return super().parts(x, graph) + charges * centred(graph).square().sum(-1)


class NonlocalTensorHead(TensorHead):
    """One symmetric 3×3 matrix per graph: that of `TensorHead` and Σ_i (v_i d_iᵀ + d_i v_iᵀ).

    Models of earlier versions have no such term; they load with v_i = 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.vectors = AtomVectorHead(channels)
        self.register_load_state_dict_pre_hook(_no_vectors_if_absent)

    def forward(self, x: Tensor, graph: "GraphBatch") -> Tensor:
        """Features (N, M, C) to matrices (B, 3, 3), components x, y, z."""
        outer = self.vectors(x)[:, :, None] * centred(graph)[:, None]
        outer = graph.sum_over_graphs(outer + outer.transpose(1, 2))
        return super().forward(x, graph) + self.scale / self.size * outer


def _no_vectors_if_absent(module: NonlocalTensorHead, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, value in module.vectors.state_dict(prefix=f"{prefix}vectors.").items():
        state.setdefault(name, torch.zeros_like(value) if name.endswith("vector.weight") else value)
