"""Order of the components of a feature, and its translation to e3nn's.

A node feature is one tensor (..., M, C) with M = (lmax+1)² components and C channels; component (l, m) stands at
index l² + l + m. The basis of each degree is e3nn's: real spherical harmonics with polar axis y, so that degree 1 is
plain (x, y, z).
"""

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from e3nn.o3 import Irreps

MAX_LMAX = 6
"""Highest degree for which tables are made."""


def num_components(lmax: int) -> int:
    """M = (lmax+1)², the components of all degrees up to lmax.

    Example:
        >>> num_components(3)
        16
    """
    return (lmax + 1) ** 2


def lmax_of(num: int) -> int:
    """The lmax whose components are `num`; inverse of `num_components`."""
    return round(num**0.5) - 1


def degree_slice(degree: int) -> slice:
    """Where the components of one degree stand."""
    return slice(degree**2, (degree + 1) ** 2)


@cache
def degree_of_component(lmax: int) -> tuple[int, ...]:
    """Degree l of each of the M components.

    Example:
        >>> degree_of_component(1)
        (0, 1, 1, 1)
    """
    return tuple(degree for degree in range(lmax + 1) for _ in range(2 * degree + 1))


@cache
def frame_order(lmax: int) -> tuple[int, ...]:
    """Component index at each place of the edge-frame order, which sorts by |m| first.

    m = 0 of all degrees, then m = +1, then m = -1, then +2, -2 and so on, degrees ascending in each run: what an
    SO(2)-linear map mixes stands together.

    Example:
        >>> frame_order(1)
        (0, 2, 3, 1)
    """
    runs = [0] + [sign * order for order in range(1, lmax + 1) for sign in (1, -1)]
    return tuple(degree**2 + degree + m for m in runs for degree in range(abs(m), lmax + 1))


def irreps(lmax: int, channels: int, group: str = "SE(3)") -> "Irreps":
    """e3nn's name for features of degrees 0..lmax with `channels` channels each.

    With E(3) the parity of degree l is (-1)^l; with SE(3) parity has no meaning and all are called even.

    Example:
        >>> irreps(1, 8, "E(3)")
        8x0e+8x1o
    """
    from e3nn.o3 import Irreps

    parity = -1 if group == "E(3)" else 1
    return Irreps([(channels, (degree, parity**degree)) for degree in range(lmax + 1)])


def to_irreps(x: Tensor) -> Tensor:
    """Features (..., M, C) in e3nn's layout (..., M·C): degree by degree, channels before components."""
    lmax = lmax_of(x.shape[-2])
    return torch.cat(
        [x[..., degree_slice(degree), :].transpose(-1, -2).flatten(-2) for degree in range(lmax + 1)], dim=-1
    )


def from_irreps(x: Tensor, lmax: int) -> Tensor:
    """Features in e3nn's layout (..., M·C) as (..., M, C); inverse of `to_irreps`."""
    channels = x.shape[-1] // num_components(lmax)
    widths = [channels * (2 * degree + 1) for degree in range(lmax + 1)]
    blocks = x.split(widths, dim=-1)
    return torch.cat([block.unflatten(-1, (channels, -1)).transpose(-1, -2) for block in blocks], dim=-2)
