"""Coupling of degrees: real Wigner 3j symbols, computed once in float64, and the kernel in the edge's frame.

The signs are this package's own and do not follow any library's (e3nn changed some between versions). In the frame
where the edge is the polar axis only Y_{J0} is nonzero in the kernel
    W^{lk}(x) = Σ_J φ_J Σ_m Y_Jm(x) Q_Jm,
so it couples output m with input ±m alone, by coefficients a_0, a_m, b_m, see `nn.so2`.
"""

from fractions import Fraction
from functools import cache
from math import factorial, sqrt

import numpy as np


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Wigner 3j symbol: the tensor that is invariant under rotation of all its indices.

    Args:
        l1: degree of the first index; |l2 - l3| ≤ l1 ≤ l2 + l3, or the result is zero.
        l2: degree of the second index.
        l3: degree of the third index.

    Returns:
        (2·l1+1, 2·l2+1, 2·l3+1) of norm 1 whose first nonzero entry is positive.

    Example:
        >>> wigner_3j(1, 1, 0)[:, :, 0].diagonal().round(4).tolist()
        [0.5774, 0.5774, 0.5774]
    """
    if not abs(l2 - l3) <= l1 <= l2 + l3:
        return np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    symbol = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            symbol[l1 + m1, l2 + m2, l3 - m1 - m2] = _complex_3j(l1, l2, l3, m1, m2)
    bases = [_real_basis(degree).conj() for degree in (l1, l2, l3)]
    tensor = np.einsum("ijk,ai,bj,ck->abc", symbol, *bases)
    tensor = tensor.real if l1 + l2 + l3 & 1 == 0 else tensor.imag
    first = tensor.flat[np.flatnonzero(np.abs(tensor) > 1e-9)[0]]
    return tensor * (np.sign(first) / np.linalg.norm(tensor))


@cache
def kernel_to_frame(out_degree: int, in_degree: int) -> np.ndarray:
    """Orthogonal matrix from the coefficients φ_J of a kernel to those in the edge's frame.

    Args:
        out_degree: l, degree of the output.
        in_degree: k, degree of the input.

    Returns:
        (1 + 2·min(l,k), same): rows a_0, √2 a_1, √2 b_1, √2 a_2, √2 b_2, …; columns J = |l-k| … l+k. J + l + k even
        gives the a's, odd gives the b's.
    """
    size = 1 + 2 * min(out_degree, in_degree)
    table = np.zeros((size, size))
    for column, degree in enumerate(range(abs(out_degree - in_degree), out_degree + in_degree + 1)):
        kernel = sqrt(2 * degree + 1) * wigner_3j(out_degree, in_degree, degree)[:, :, degree]  # Y_J0 on the axis
        table[0, column] = kernel[out_degree, in_degree]
        for m in range(1, min(out_degree, in_degree) + 1):
            table[2 * m - 1, column] = sqrt(2) * kernel[out_degree + m, in_degree + m]
            table[2 * m, column] = sqrt(2) * kernel[out_degree - m, in_degree + m]
    return table


@cache
def _real_basis(degree: int) -> np.ndarray:
    """Unitary matrix from complex harmonics (Condon-Shortley) to the real ones."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        matrix[degree + m, degree + m] = sign / sqrt(2)
        matrix[degree + m, degree - m] = 1 / sqrt(2)
        matrix[degree - m, degree + m] = -1j * sign / sqrt(2)
        matrix[degree - m, degree - m] = 1j / sqrt(2)
    return matrix


def _complex_3j(l1: int, l2: int, l3: int, m1: int, m2: int) -> float:
    """Wigner's 3j symbol by Racah's formula, up to a factor of the degrees alone; exact up to the final square root."""
    m3, square = -m1 - m2, 1
    for degree, m in ((l1, m1), (l2, m2), (l3, m3)):
        square *= factorial(degree + m) * factorial(degree - m)
    total = Fraction(0)
    for t in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        denominator = factorial(t) * factorial(l3 - l2 + t + m1) * factorial(l3 - l1 + t - m2)
        denominator *= factorial(l1 + l2 - l3 - t) * factorial(l1 - t - m1) * factorial(l2 - t + m2)
        total += Fraction((-1) ** t, denominator)
    return float(total) * sqrt(square) * (-1) ** m3
