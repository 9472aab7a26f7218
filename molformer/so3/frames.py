"""Edge frames: the rotation of each edge onto the polar axis, without angles and so without poles.

R_e takes the edge's direction to +y. For y ≥ 0 it is the shortest such rotation, with the unit quaternion
    q = (1+y, -z, 0, x) / √(2(1+y));
for y < 0 the edge is first rotated by π about x, whose D is a constant diagonal. D(R_e) is a polynomial in q, so that
value, gradient and Hessian are exact to rounding everywhere. The choice of frame jumps at y = 0 by a roll about the
edge, under which the layers that use frames are invariant.

Letters: E edges, M = (lmax+1)² components, K monomials of degree 2·lmax in (q_w, q_x, q_z).
"""

import numpy as np
import torch
from torch import Tensor

from molformer.so3.components import degree_of_component, degree_slice, frame_order, num_components
from molformer.so3.coupling import wigner_3j
from molformer.so3.tables import cached_tensor

_ROTATION = {  # coefficients of the rotation matrix in w², wx, wz, x², xz, z² for a quaternion (w, x, 0, z)
    (2, 0, 0): [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    (1, 1, 0): [[0, 0, 0], [0, 0, -2], [0, 2, 0]],
    (1, 0, 1): [[0, -2, 0], [2, 0, 0], [0, 0, 0]],
    (0, 2, 0): [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    (0, 1, 1): [[0, 0, 2], [0, 0, 0], [2, 0, 0]],
    (0, 0, 2): [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
}


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
    down = (direction[:, 1] < 0).to(direction.dtype)
    up = 1 - down
    monomials = _monomials(_quaternion(direction, up - down), lmax)
    size, table = num_components(lmax), _table_on(lmax, direction.device, direction.dtype)
    return (torch.cat([monomials * up, monomials * down]).T @ table).view(-1, size, size)


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


@cached_tensor
def _factors_on(degree: int, device: torch.device) -> Tensor:
    """Of each monomial of degree 2·degree, which one of the degree before it is the product of, and with which of 2.

    Those of degree 2 are products of two numbers of the quaternion. Returns (2, K).
    """
    before, by = (_exponents(2 * degree - 2), _exponents(2)) if degree > 1 else (_exponents(1), _exponents(1))
    pairs = {(a + d, b + e, c + f): (i, j) for i, (a, b, c) in enumerate(before) for j, (d, e, f) in enumerate(by)}
    return torch.tensor([pairs[exponent] for exponent in _exponents(2 * degree)], device=device).T


def _exponents(degree: int) -> list[tuple[int, int, int]]:
    """Exponents of w, x and z in all monomials of a degree."""
    return [(a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)]


@cached_tensor
def _table_on(lmax: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.as_tensor(_polynomial_table(lmax)).to(device, dtype)


def _polynomial_table(lmax: int) -> np.ndarray:
    """Coefficients (2K, M·M) of D(R_e) in the monomials of degree 2·lmax: first K for y ≥ 0, last K for y < 0."""
    exponents, size = _exponents(2 * lmax), num_components(lmax)
    dense = np.zeros((len(exponents), size, size))
    for degree, block in enumerate(_block_polynomials(lmax)):
        part = degree_slice(degree)
        for exponent, coefficients in _homogenised(block, lmax - degree).items():
            dense[exponents.index(exponent), part, part] = coefficients
    dense = dense[:, frame_order(lmax)]
    return np.concatenate([dense, dense * _half_turn(lmax)]).reshape(-1, size * size)


def _half_turn(lmax: int) -> np.ndarray:
    """Diagonal (M,) of D of the rotation by π about x: (-1)^l for m ≥ 0, (-1)^(l+1) for m < 0."""
    degrees = np.array(degree_of_component(lmax))
    orders = np.arange(num_components(lmax)) - degrees**2 - degrees
    return (-1.0) ** (degrees + (orders < 0))


_Polynomial = dict[tuple[int, int, int], np.ndarray]  # coefficient matrices by exponents of (w, x, z)


def _block_polynomials(lmax: int) -> list[_Polynomial]:
    """D^l as homogeneous polynomials of degree 2l, by the recursion of `so3.wigner`."""
    rotation = {exponent: np.array(matrix, dtype=np.float64) for exponent, matrix in _ROTATION.items()}
    blocks: list[_Polynomial] = [{(0, 0, 0): np.ones((1, 1))}, rotation]
    for degree in range(1, lmax):
        coupling = wigner_3j(degree, 1, degree + 1) * np.sqrt(2 * degree + 3)
        block: _Polynomial = {}
        for left, matrix in blocks[-1].items():
            for right, turn in rotation.items():
                exponent = (left[0] + right[0], left[1] + right[1], left[2] + right[2])
                term = np.einsum("aui,bvj,ab,uv->ij", coupling, coupling, matrix, turn, optimize=True)
                block[exponent] = block.get(exponent, 0) + term
        blocks.append(block)
    return blocks


def _homogenised(block: _Polynomial, power: int) -> _Polynomial:
    """The same polynomial times (w² + x² + z²)^power, which is 1 for a unit quaternion."""
    for _ in range(power):
        raised: _Polynomial = {}
        for (a, b, c), matrix in block.items():
            for exponent in ((a + 2, b, c), (a, b + 2, c), (a, b, c + 2)):
                raised[exponent] = raised.get(exponent, 0) + matrix
        block = raised
    return block
