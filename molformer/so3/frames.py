"""Edge frames: the rotation of each edge onto the polar axis, without angles and so without poles.

R_e takes the edge's direction to +y. For y ≥ 0 it is the shortest such rotation, with the unit quaternion
    q = (1+y, -z, 0, x) / √(2(1+y));
for y < 0 the edge is first turned by π about x, whose D is a constant diagonal. D(R_e) is a polynomial in q, so that
value, gradient and Hessian are right to rounding everywhere. The choice of frame jumps at y = 0 by a roll about the
edge, under which the layers that use frames are invariant.

Letters: E edges, M = (lmax+1)² components, K monomials of degree 2·lmax in (q_w, q_x, q_z).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from molformer.so3.components import degree_of_component, degree_slice, frame_order, num_components
from molformer.so3.coupling import wigner_3j

_ROTATION = {  # coefficients of the rotation matrix in w², wx, wz, x², xz, z² for a quaternion (w, x, 0, z)
    (2, 0, 0): [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    (1, 1, 0): [[0, 0, 0], [0, 0, -2], [0, 2, 0]],
    (1, 0, 1): [[0, -2, 0], [2, 0, 0], [0, 0, 0]],
    (0, 2, 0): [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    (0, 1, 1): [[0, 0, 2], [0, 0, 0], [2, 0, 0]],
    (0, 0, 2): [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
}


def edge_frames(direction: Tensor, lmax: int) -> Tensor:
    """Wigner matrices that turn features into the frames of edges.

    Args:
        direction: unit vectors (E, 3).
        lmax: highest degree.

    Returns:
        (E, M, M): rows in the order of `frame_order`, columns in the usual order. The transpose turns back.

    Example:
        >>> frames = edge_frames(torch.tensor([[1.0, 0.0, 0.0]]), 1)
        >>> (frames @ torch.tensor([0.0, 1.0, 0.0, 0.0])).round()  # the degree-1 feature x, now at m = 0
        tensor([[0., 1., 0., 0.]])
    """
    if lmax == 0:
        return torch.ones_like(direction[:, :1, None])
    exponents, table = _on_device(_polynomial_table, lmax, direction.device, direction.dtype)
    flipped = direction[:, 1] < 0
    monomials = _monomials(_quaternion(direction), exponents, 2 * lmax)
    halves = torch.cat([monomials * ~flipped[:, None], monomials * flipped[:, None]], dim=-1)
    size = num_components(lmax)
    return (halves @ table).view(-1, size, size)


def frame_blocks(direction: Tensor, lmax: int) -> Tensor:
    """The blocks of `edge_frames` without the zeros around them, and without degree 0.

    Args:
        direction: unit vectors (E, 3).
        lmax: highest degree.

    Returns:
        (E, Σ (2l+1)²): the blocks (2l+1, 2l+1) of l = 1 … lmax, rows and columns in the usual order; see `so3.turning`.
    """
    flipped = (direction[:, 1] < 0)[:, None]
    quaternion = _quaternion(direction)
    blocks = []
    for degree in range(1, lmax + 1):
        exponents, table = _on_device(_block_table, degree, direction.device, direction.dtype)
        monomials = _monomials(quaternion, exponents, 2 * degree)
        halves = torch.cat([monomials * ~flipped, monomials * flipped], dim=-1)
        blocks.append(halves @ table)
    return torch.cat(blocks, dim=1)


def _quaternion(direction: Tensor) -> Tensor:
    """(w, x, z) of the shortest rotation onto +y (E, 3), after the half turn where y < 0."""
    x, y, z = direction.unbind(-1)
    sign = torch.where(y < 0, -1.0, 1.0).to(direction)
    cosine = 1 + sign * y
    return torch.stack([cosine, -sign * z, x], dim=-1) * (2 * cosine).rsqrt()[:, None]


def _monomials(quaternion: Tensor, exponents: Tensor, degree: int) -> Tensor:
    """w^a x^b z^c for each row (a, b, c) of exponents: (E, 3) to (E, K)."""
    powers = [torch.ones_like(quaternion)]
    for _ in range(degree):
        powers.append(powers[-1] * quaternion)
    stacked = torch.stack(powers, dim=-1)  # (E, 3, degree + 1)
    w, x, z = (stacked[:, axis].index_select(-1, exponents[:, axis]) for axis in range(3))
    return w * x * z


_Table = Callable[[int], tuple[Tensor, Tensor]]


@cache
def _on_device(table: _Table, degree: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """One of the two tables, where it does not need to be copied for each batch."""
    exponents, coefficients = table(degree)
    return exponents.to(device), coefficients.to(device, dtype)


@cache
def _polynomial_table(lmax: int) -> tuple[Tensor, Tensor]:
    """Exponents (K, 3), and coefficients (2K, M·M) of D(R_e): first K for y ≥ 0, last K for y < 0."""
    total = 2 * lmax
    exponents = [(a, b, total - a - b) for a in range(total, -1, -1) for b in range(total - a, -1, -1)]
    size = num_components(lmax)
    dense = np.zeros((len(exponents), size, size))
    for degree, block in enumerate(_block_polynomials(lmax)):
        part = degree_slice(degree)
        for exponent, coefficients in _homogenised(block, lmax - degree).items():
            dense[exponents.index(exponent), part, part] = coefficients
    dense = dense[:, frame_order(lmax)]
    table = np.concatenate([dense, dense * _half_turn(lmax)]).reshape(2 * len(exponents), size * size)
    return torch.tensor(exponents), torch.as_tensor(table)


@cache
def _block_table(degree: int) -> tuple[Tensor, Tensor]:
    """As `_polynomial_table`, of one degree: exponents (K, 3), and coefficients (2K, (2l+1)²)."""
    block, part = _block_polynomials(degree)[degree], degree_slice(degree)
    dense = np.stack(list(block.values()))
    table = np.concatenate([dense, dense * _half_turn(degree)[part]]).reshape(2 * len(block), -1)
    return torch.tensor(list(block)), torch.as_tensor(table)


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
