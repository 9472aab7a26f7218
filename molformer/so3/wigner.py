"""Wigner matrices: how the components of a feature transform under rotation.

Y_l(R x) = D^l(R) Y_l(x), by the recursion D^{l+1} = Cᵀ (D^l ⊗ R) C with C the coupling of l and 1 to l+1. Used for
arbitrary rotations (tests, checks, rotation of whole structures); `so3.frames` has a faster form for edges.
"""

from math import sqrt

import torch
from torch import Tensor

from molformer.so3.components import num_components
from molformer.so3.coupling import wigner_3j


def wigner_blocks(rotation: Tensor, lmax: int) -> list[Tensor]:
    """D^0 … D^lmax, tensors (..., 2l+1, 2l+1), of rotations (..., 3, 3), whose degree 1 is in the order (x, y, z)."""
    blocks = [torch.ones_like(rotation[..., :1, :1]), rotation]
    for degree in range(1, lmax):
        coupling = torch.as_tensor(wigner_3j(degree, 1, degree + 1) * sqrt(2 * degree + 3)).to(rotation)
        blocks.append(torch.einsum("aui,bvj,...ab,...uv->...ij", coupling, coupling, blocks[-1], rotation))
    return blocks[: lmax + 1]


def wigner_matrix(rotation: Tensor, lmax: int) -> Tensor:
    """All degrees in one block-diagonal matrix (..., M, M), to be applied to features (..., M, C).

    Example:
        >>> rotation = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
        >>> wigner_matrix(rotation, 2).shape
        torch.Size([9, 9])
    """
    size = num_components(lmax)
    matrix = rotation.new_zeros(*rotation.shape[:-2], size, size)
    for degree, block in enumerate(wigner_blocks(rotation, lmax)):
        start, stop = degree**2, (degree + 1) ** 2
        matrix[..., start:stop, start:stop] = block
    return matrix


def random_rotation(generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """A rotation matrix (3, 3) drawn uniformly from SO(3), from a random unit quaternion."""
    from scipy.spatial.transform import Rotation

    quaternion = torch.randn(4, generator=generator, dtype=torch.float64).roll(-1)  # (x, y, z, w)
    return torch.tensor(Rotation.from_quat(quaternion.numpy()).as_matrix(), dtype=dtype)
