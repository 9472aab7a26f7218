"""Additional inputs of the nodes: vectors, such as velocities and normals, and scalars, such as charges.

They enter node features as degrees 1 and 0, and edge features as invariants of the inputs of both ends and the edge
direction. Vectors rotate with the structure and, under E(3), are reflected with it.
Letters: N nodes, E edges, V vectors, S scalars, C channels, F edge features, M components.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.so3.components import num_components


class NodeInputs(nn.Module):
    """Features from vectors u_k and scalars s: x⁰ = W [s, u²], x¹_c = Σ_k V_kc u_k.

    Args:
        lmax: highest degree of the features, at least 1 if there are vectors.
        vectors: V.
        scalars: S.
        channels: C.

    Example:
        >>> NodeInputs(lmax=2, vectors=1, scalars=1, channels=8)(torch.zeros(5, 1, 3), torch.zeros(5, 1)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, vectors: int, scalars: int, channels: int) -> None:
        super().__init__()
        assert lmax >= 1 or not vectors
        self.lmax = lmax
        self.scalars = nn.Linear(vectors + scalars, channels, bias=False)
        self.vectors = nn.Linear(vectors, channels, bias=False) if vectors else None

    def forward(self, vectors: Tensor, scalars: Tensor) -> Tensor:
        """Vectors (N, V, 3) and scalars (N, S) to features (N, M, C)."""
        degrees = [self.scalars(torch.cat([scalars, vectors.square().sum(-1)], dim=1))[:, None]]
        if self.vectors is not None:
            degrees.append(self.vectors(vectors.transpose(1, 2)))  # (N, 3, C)
        x = torch.cat(degrees, dim=1)
        return functional.pad(x, (0, 0, 0, num_components(self.lmax) - x.shape[1]))


class EdgeInputs(nn.Module):
    """Edge features from the inputs of both ends: scalars, their products, and dot products of vectors and direction.

    Args:
        vectors: V.
        scalars: S.
        features: F.

    Example:
        >>> ends = torch.tensor([0, 1]), torch.tensor([1, 0])
        >>> inputs = EdgeInputs(vectors=1, scalars=1, features=16)
        >>> inputs(torch.zeros(2, 1, 3), torch.zeros(2, 1), *ends, torch.zeros(2, 3)).shape
        torch.Size([2, 16])
    """

    def __init__(self, vectors: int, scalars: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * (vectors + scalars), features, bias=False)
        nn.init.normal_(self.linear.weight, std=1 / sqrt(3 * (vectors + scalars)))

    def forward(self, vectors: Tensor, scalars: Tensor, src: Tensor, dst: Tensor, direction: Tensor) -> Tensor:
        """Edge features (E, F) from vectors (N, V, 3) and scalars (N, S) of nodes, and directions of edges (E, 3)."""
        u, v = vectors.index_select(0, src), vectors.index_select(0, dst)  # (E, V, 3)
        s, t = scalars.index_select(0, src), scalars.index_select(0, dst)  # (E, S)
        along = [(ends * direction[:, None]).sum(-1) for ends in (u, v)]
        return self.linear(torch.cat([s, t, s * t, *along, (u * v).sum(-1)], dim=1))
