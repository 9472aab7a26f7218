"""Tables of `so3.frames`: D(R_e) as a polynomial in the quaternion (w, x, 0, z) of an edge's rotation, in float64.

Letters: M = (lmax+1)² components, K monomials of degree 2·lmax in (w, x, z).
"""

import numpy as np

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


def monomial_factors(degree: int) -> np.ndarray:
    """Indices (2, K) of the two factors of each monomial of degree 2·degree: of degree 2·degree - 2 and of degree 2.

    Those of a monomial of degree 2 are two components of the quaternion.
    """
    left, right = (_exponents(2 * degree - 2), _exponents(2)) if degree > 1 else (_exponents(1), _exponents(1))
    pairs = {(a + d, b + e, c + f): (i, j) for i, (a, b, c) in enumerate(left) for j, (d, e, f) in enumerate(right)}
    return np.array([pairs[exponent] for exponent in _exponents(2 * degree)]).T


def _exponents(degree: int) -> list[tuple[int, int, int]]:
    """Exponents of w, x and z in all monomials of a degree."""
    return [(a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)]


def polynomial_table(lmax: int) -> np.ndarray:
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
            for right, factor in rotation.items():
                exponent = (left[0] + right[0], left[1] + right[1], left[2] + right[2])
                term = np.einsum("aui,bvj,ab,uv->ij", coupling, coupling, matrix, factor, optimize=True)
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
