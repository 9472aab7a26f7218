"""Functions of an edge's length: Bessel basis and cutoff envelope.

Gasteiger et al. 2020 (DimeNet, arXiv 2003.03123), equations 7 and 8. Lengths in Å.
Letters: E edges, K basis functions.
"""

from math import pi, sqrt

import torch
from torch import Tensor, nn


class BesselBasis(nn.Module):
    """√(2/r_c) sin(nπ r/r_c) / r for n = 1 … K; finite at r = 0.

    Args:
        cutoff: r_c, Å.
        size: K.

    Example:
        >>> BesselBasis(5.0, 8)(torch.tensor([0.0, 1.2])).shape
        torch.Size([2, 8])
    """

    order: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("order", torch.arange(1, size + 1), persistent=False)

    def forward(self, length: Tensor) -> Tensor:
        """Lengths (E,) in Å to basis values (E, K)."""
        # sin(nπ r/r_c) / r = (nπ/r_c) sinc(n r/r_c); scaled to be of order one.
        order = self.order.to(length.dtype)
        scale = sqrt(2 / self.cutoff) * pi / self.cutoff
        return scale * order * torch.sinc(length[:, None] * (order / self.cutoff))


class PolynomialEnvelope(nn.Module):
    """Polynomial that is 1 at r = 0 and reaches 0 at the cutoff with two derivatives that vanish.

    Args:
        cutoff: r_c, Å.
        exponent: p; the larger, the longer it stays near 1.

    Example:
        >>> PolynomialEnvelope(5.0)(torch.tensor([0.0, 5.0, 7.0]))
        tensor([1., 0., 0.])
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.exponent = exponent

    def forward(self, length: Tensor) -> Tensor:
        """Lengths (E,) in Å to weights (E,) in [0, 1]."""
        p = self.exponent
        r = (length / self.cutoff).clamp(max=1)
        envelope = 1 - r**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * r + p * (p + 1) / 2 * r * r)
        return envelope.clamp(min=0)  # rounding may leave a little less than nothing at the cutoff
