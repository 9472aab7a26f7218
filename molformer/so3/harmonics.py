"""Real spherical harmonics, polar axis y, as polynomials.

Y_lm(x) = N_lm Π_l^|m|(y, r) · Re or Im of (z + i x)^|m|, with Π the derivative of the Legendre polynomial, so that
no angle is computed and nothing is singular. Normalised as e3nn's `component`: Σ_m Y_lm² = 2l+1 on the unit sphere.
"""

from math import factorial, sqrt

import torch
from torch import Tensor


def spherical_harmonics(vectors: Tensor, lmax: int) -> Tensor:
    """Homogeneous harmonic polynomials of degrees 0..lmax; on unit vectors, the spherical harmonics.

    Args:
        vectors: (..., 3).
        lmax: highest degree.

    Returns:
        (..., M); component (l, m) at index l² + l + m.

    Example:
        >>> spherical_harmonics(torch.tensor([0.0, 1.0, 0.0]), 1)
        tensor([1.0000, 0.0000, 1.7321, 0.0000])
    """
    x, y, z = vectors.unbind(-1)
    square = x * x + y * y + z * z
    cos, sin = [torch.ones_like(x)], [torch.zeros_like(x)]  # r^m sin(theta)^m times cos and sin of m phi
    for _ in range(lmax):
        cos, sin = [*cos, z * cos[-1] - x * sin[-1]], [*sin, x * cos[-1] + z * sin[-1]]
    legendre = _legendre_derivatives(y, square, lmax)
    components = []
    for degree in range(lmax + 1):
        for m in range(-degree, degree + 1):
            order = abs(m)
            scale = sqrt((2 * degree + 1) * (2 if m else 1) * factorial(degree - order) / factorial(degree + order))
            components.append(scale * legendre[degree, order] * (sin[order] if m < 0 else cos[order]))
    return torch.stack(components, dim=-1)


def _legendre_derivatives(y: Tensor, square: Tensor, lmax: int) -> dict[tuple[int, int], Tensor]:
    """d^m P_l / dy^m of the Legendre polynomials, made homogeneous of degree l - m with r²."""
    table: dict[tuple[int, int], Tensor] = {}
    for order in range(lmax + 1):
        double_factorial = 1
        for odd in range(1, 2 * order, 2):
            double_factorial *= odd
        table[order, order] = torch.full_like(y, float(double_factorial))
        for degree in range(order + 1, lmax + 1):
            value = (2 * degree - 1) * y * table[degree - 1, order]
            if degree > order + 1:
                value = value - (degree + order - 1) * square * table[degree - 2, order]
            table[degree, order] = value / (degree - order)
    return table
