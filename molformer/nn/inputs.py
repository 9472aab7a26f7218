"""Further inputs of the nodes: vectors, such as velocities and normals, and numbers, such as charges.

Into the features of a node they go as degree 1 and degree 0; into those of an edge as the invariants that both ends
have with each other and with the edge's direction. Vectors turn with the structure and, under E(3), change sign in a
mirror. Letters: N nodes, E edges, V vectors, S numbers, C channels, F edge features, M components.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.so3.components import num_components


class NodeInputs(nn.Module):
    """Features from vectors u_k and numbers s: x⁰ = W [s, u²], x¹_c = Σ_k V_kc u_k.

    Args:
        lmax: highest degree of the features, at least 1 if there are vectors.
        vectors: V.
        numbers: S.
        channels: C.

    Example:
        >>> NodeInputs(lmax=2, vectors=1, numbers=1, channels=8)(torch.zeros(5, 1, 3), torch.zeros(5, 1)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, lmax: int, vectors: int, numbers: int, channels: int) -> None:
        super().__init__()
        assert lmax >= 1 or not vectors
        self.lmax = lmax
        self.scalars = nn.Linear(vectors + numbers, channels, bias=False)
        self.vectors = nn.Linear(vectors, channels, bias=False) if vectors else None

    def forward(self, vectors: Tensor, numbers: Tensor) -> Tensor:
        """Vectors (N, V, 3) and numbers (N, S) to features (N, M, C)."""
        degrees = [self.scalars(torch.cat([numbers, vectors.square().sum(-1)], dim=1))[:, None]]
        if self.vectors is not None:
            degrees.append(self.vectors(vectors.transpose(1, 2)))  # (N, 3, C)
        x = torch.cat(degrees, dim=1)
        return functional.pad(x, (0, 0, 0, num_components(self.lmax) - x.shape[1]))


class EdgeInputs(nn.Module):
    """Edge features from the inputs of both ends: numbers, their products, and products of vectors and direction.

    Args:
        vectors: V.
        numbers: S.
        features: F.

    Example:
        >>> ends = torch.tensor([0, 1]), torch.tensor([1, 0])
        >>> inputs = EdgeInputs(vectors=1, numbers=1, features=16)
        >>> inputs(torch.zeros(2, 1, 3), torch.zeros(2, 1), *ends, torch.zeros(2, 3)).shape
        torch.Size([2, 16])
    """

    def __init__(self, vectors: int, numbers: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * (vectors + numbers), features, bias=False)
        nn.init.normal_(self.linear.weight, std=1 / sqrt(3 * (vectors + numbers)))

    def forward(self, vectors: Tensor, numbers: Tensor, src: Tensor, dst: Tensor, direction: Tensor) -> Tensor:
        """Edge features.

        Args:
            vectors: of the nodes (N, V, 3).
            numbers: of the nodes (N, S).
            src: sending nodes (E,).
            dst: receiving nodes (E,).
            direction: unit vectors (E, 3).

        Returns:
            (E, F).
        """
        u, v = vectors.index_select(0, src), vectors.index_select(0, dst)  # (E, V, 3)
        s, t = numbers.index_select(0, src), numbers.index_select(0, dst)  # (E, S)
        along = [(ends * direction[:, None]).sum(-1) for ends in (u, v)]
        return self.linear(torch.cat([s, t, s * t, *along, (u * v).sum(-1)], dim=1))
