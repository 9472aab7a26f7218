"""Edges of the published SE(3)-Transformer, whose kernels are functions of the length itself.

Letters: N nodes, E edges, F edge features.
"""

import torch
from torch import Tensor, nn

from molformer.nn.edges import Edges, polar
from molformer.nn.precision import full_precision
from molformer.nn.radial import PolynomialEnvelope
from molformer.so3.frames import edge_wigner


class LengthEmbedding(nn.Module):
    """Edge vectors to `Edges` up to degree lmax; features are numbers given for an edge, then its length; cutoff, Å."""

    def __init__(self, lmax: int, cutoff: float) -> None:
        super().__init__()
        self.lmax = lmax
        self.envelope = PolynomialEnvelope(cutoff)

    def forward(self, src: Tensor, dst: Tensor, edge_vec: Tensor, num_nodes: int, given: Tensor | None = None) -> Edges:
        """Embed edges (E,), sorted by dst, of vectors pos[dst] - pos[src] (E, 3), Å, and given scalars (E, F-1)."""
        length, direction, zero = polar(edge_vec)
        with full_precision(edge_vec.device.type):
            wigner = edge_wigner(direction, self.lmax)
        features = length[:, None]
        if given is not None:
            features = torch.cat([given.to(features.dtype), features], dim=1)
        return Edges(src, dst, num_nodes, wigner, features, self.envelope(length).masked_fill(zero, 0.0))
