"""Features in e3nn's language: its irreps, and its layout with channels before components."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molformer.so3.components import degree_slice, lmax_of, num_components

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


def irreps(lmax: int, channels: int, group: str = "SE(3)") -> "Irreps":
    """Irreps of features of degrees 0..lmax with `channels` channels each.

    With E(3) the parity of degree l is (-1)^l; with SE(3) parity has no meaning and all are labelled even.

    Example:
        >>> irreps(1, 8, "E(3)")
        8x0e+8x1o
    """
    from e3nn.o3 import Irreps

    parity = -1 if group == "E(3)" else 1
    return Irreps([(channels, (degree, parity**degree)) for degree in range(lmax + 1)])


def to_irreps(x: Tensor) -> Tensor:
    """Features (..., M, C) in e3nn's layout (..., M·C): degree by degree, channels before components."""
    parts = [x[..., degree_slice(degree), :] for degree in range(lmax_of(x.shape[-2]) + 1)]
    return torch.cat([part.transpose(-1, -2).flatten(-2) for part in parts], dim=-1)


def from_irreps(x: Tensor, lmax: int) -> Tensor:
    """Features in e3nn's layout (..., M·C) as (..., M, C); inverse of `to_irreps`."""
    channels = x.shape[-1] // num_components(lmax)
    widths = [channels * (2 * degree + 1) for degree in range(lmax + 1)]
    blocks = x.split(widths, dim=-1)
    return torch.cat([block.unflatten(-1, (channels, -1)).transpose(-1, -2) for block in blocks], dim=-2)
