"""Rotation-invariant features of atoms and molecules, from the equivariant features of the encoder.

Of an atom: its C features of degree 0, then the norms of those of degrees 1 … lmax. Of a molecule: the mean over its
atoms. Letters: N nodes, M = (lmax+1)² components, C channels, F = C (lmax+1) features, B graphs.
"""

import torch
from torch import Tensor

from molformer.so3.components import degree_slice, lmax_of


def invariant_features(x: Tensor) -> Tensor:
    """Invariant features (N, F) from equivariant ones (N, M, C).

    Example:
        >>> invariant_features(torch.zeros(5, 9, 16)).shape
        torch.Size([5, 48])
    """
    norms = [x[:, degree_slice(degree)].square().sum(1).sqrt() for degree in range(1, lmax_of(x.shape[1]) + 1)]
    return torch.cat([x[:, 0], *norms], dim=1)
