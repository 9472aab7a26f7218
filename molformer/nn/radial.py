"""Functions of an edge's length: Bessel basis and cutoff envelope.

Gasteiger et al. 2020 (DimeNet, arXiv 2003.03123), equations 7 and 8. Lengths in Å.
Letters: E edges, K basis functions.
"""

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn

UNIT_CUTOFF = 5.0  # the cutoff in the basis's unit of length: values are of order one for molecules and point clouds


class BesselBasis(nn.Module):
    """√(2/u) sin(nπ x/u) / x with x = u r/r_c for n = 1 … K; finite at r = 0.

    u is `UNIT_CUTOFF`. Weights that were saved before it was introduced use r_c, as published: then values
    grow as r_c^(-3/2), too large for a cutoff far below 1.

    Args:
        cutoff: r_c, Å.
        size: K.

    Example:
        >>> BesselBasis(5.0, 8)(torch.tensor([0.0, 1.2])).shape
        torch.Size([2, 8])
    """

    order: Tensor
    scaled: Tensor
    """Whether u is `UNIT_CUTOFF`; saved with the weights."""

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.unit = UNIT_CUTOFF
        self.register_buffer("order", torch.arange(1, size + 1), persistent=False)
        self.register_buffer("scaled", torch.ones((), dtype=torch.uint8))

    def forward(self, length: Tensor) -> Tensor:
        """Lengths (E,) in Å to basis values (E, K)."""
        # sin(nπ x/u) / x = (nπ/u) sinc(n r/r_c)
        order = self.order.to(length.dtype)
        scale = sqrt(2 / self.unit) * pi / self.unit
        return scale * order * torch.sinc(length[:, None] * (order / self.cutoff))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        scaled = state_dict.setdefault(f"{prefix}scaled", torch.zeros_like(self.scaled))
        self.unit = UNIT_CUTOFF if scaled else self.cutoff
        super()._load_from_state_dict(state_dict, prefix, *rest)


class PolynomialEnvelope(nn.Module):
    """Polynomial from 1 at r = 0 to 0 at the cutoff, where its first two derivatives vanish.

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
        p, r = self.exponent, (length / self.cutoff).clamp(max=1)
        envelope = 1 - r**p * ((p + 1) * (p + 2) / 2 - r * (p * (p + 2) - p * (p + 1) / 2 * r))
        return envelope.clamp(min=0)  # rounding may give a small negative value at the cutoff
