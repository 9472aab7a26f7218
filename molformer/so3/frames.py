"""Edge frames: the rotation of each edge onto the polar axis, without angles and so without poles.

R_e takes the edge's direction to +y. For y ≥ 0 it is the shortest such rotation, with the unit quaternion
    q = (1+y, -z, 0, x) / √(2(1+y));
for y < 0 the edge is first rotated by π about x, whose D is a constant diagonal. D(R_e) is a polynomial in q, so that
value, gradient and Hessian are exact to rounding everywhere. The choice of frame jumps at y = 0 by a roll about the
edge, under which the layers that use frames are invariant.

Letters: E edges, M = (lmax+1)² components, K monomials of degree 2·lmax in (q_w, q_x, q_z).
"""

from functools import cache

import torch
from torch import Tensor

from molformer.so3.components import num_components


def edge_wigner(direction: Tensor, lmax: int) -> Tensor:
    """Wigner matrices that rotate features into the frames of edges.

    Args:
        direction: unit vectors (E, 3).
        lmax: highest degree.

    Returns:
        (E, M, M): rows in the order of `frame_order`, columns in the usual order; the transpose rotates back.

    Example:
        >>> wigner = edge_wigner(torch.tensor([[1.0, 0.0, 0.0]]), 1)
        >>> (wigner @ torch.tensor([0.0, 1.0, 0.0, 0.0])).round()  # the degree-1 feature x, now at m = 0
        tensor([[0., 1., 0., 0.]])
    """
    if lmax == 0:
        return torch.ones_like(direction[:, :1, None])
    lower = (direction[:, 1] < 0).to(direction.dtype)
    upper = 1 - lower
    monomials = _monomials(_quaternion(direction, upper - lower), lmax)
    size, table = num_components(lmax), _table_on(lmax, direction.device, direction.dtype)
    return (torch.cat([monomials * upper, monomials * lower]).T @ table).view(-1, size, size)


def _quaternion(direction: Tensor, sign: Tensor) -> Tensor:
    """(w, x, z) of the shortest rotation onto +y, after the half turn where the sign (E,) of y is -1: (3, E)."""
    x, y, z = direction.unbind(-1)
    cosine = 1 + sign * y
    return torch.stack([cosine, -sign * z, x]) * (2 * cosine).rsqrt()


def _monomials(quaternion: Tensor, lmax: int) -> Tensor:
    """Monomials of degree 2·lmax of a quaternion (3, E), in the order of `_exponents`: (K, E)."""
    monomials = squares = quaternion
    for degree in range(1, lmax + 1):
        left, right = _factors_on(degree, quaternion.device)
        monomials = monomials.index_select(0, left) * squares.index_select(0, right)
        squares = squares if degree > 1 else monomials
    return monomials


@cache
def _factors_on(degree: int, device: torch.device) -> Tensor:
    from molformer.so3.frame_tables import monomial_factors

    with torch.inference_mode(False):  # autograd can save it, even if the first call is in inference mode
        return torch.as_tensor(monomial_factors(degree)).to(device)


@cache
def _table_on(lmax: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    from molformer.so3.frame_tables import polynomial_table

    with torch.inference_mode(False):
        return torch.as_tensor(polynomial_table(lmax)).to(device, dtype)
