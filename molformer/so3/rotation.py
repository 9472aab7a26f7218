"""Rotation of features into the frames of edges and back.

Up to `DENSE_LMAX` the Wigner matrices of an edge are one matrix (M, M) with its zeros, since one product is fastest.
Beyond, they are the blocks of the degrees, whose size grows with the third power of lmax instead of the fourth.

Letters: E edges, M = (lmax+1)² components, C channels, S = Σ_l (2l+1)², l = 1 … lmax, numbers of the blocks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from molformer.so3.components import degree_slice, frame_order, lmax_of, num_components
from molformer.so3.tables import cached_tensor

DENSE_LMAX = 3


def rotate_to_edges(wigner: Tensor, x: Tensor) -> Tensor:
    """Features (E, M, C) in the common frame to features in the edge frames, components sorted by |m|.

    Args:
        wigner: (E, M, M) or (E, S), see `edge_wigner`.
        x: features.
    """
    wigner = wigner.to(x.dtype)
    if wigner.ndim == 3:
        return torch.bmm(wigner, x)
    lmax = lmax_of(x.shape[1])
    parts = [torch.bmm(block, x[:, part]) for part, block in _blocks(wigner, lmax)]
    return torch.cat([x[:, :1], *parts], dim=1).index_select(1, _order(lmax, x.device))


def rotate_from_edges(wigner: Tensor, x: Tensor) -> Tensor:
    """The inverse of `rotate_to_edges`."""
    wigner = wigner.to(x.dtype)
    if wigner.ndim == 3:
        return torch.bmm(wigner.transpose(1, 2), x)
    lmax = lmax_of(x.shape[1])
    x = x.index_select(1, _places(lmax, x.device))
    parts = [torch.bmm(block.transpose(1, 2), x[:, part]) for part, block in _blocks(wigner, lmax)]
    return torch.cat([x[:, :1], *parts], dim=1)


def dense(wigner: Tensor, lmax: int) -> Tensor:
    """The whole matrices (E, M, M) of Wigner matrices in either form."""
    if wigner.ndim == 3:
        return wigner
    identity = torch.eye(num_components(lmax), dtype=wigner.dtype, device=wigner.device)
    return rotate_to_edges(wigner, identity.expand(len(wigner), -1, -1))


def _blocks(wigner: Tensor, lmax: int) -> Iterator[tuple[slice, Tensor]]:
    """Components of each degree from 1 on, and the view (E, 2l+1, 2l+1) of its block."""
    start = 0
    for degree in range(1, lmax + 1):
        size = 2 * degree + 1
        yield degree_slice(degree), wigner[:, start : start + size * size].unflatten(1, (size, size))
        start += size * size


@cached_tensor
def _order(lmax: int, device: torch.device) -> Tensor:
    return torch.tensor(frame_order(lmax), device=device)


@cached_tensor
def _places(lmax: int, device: torch.device) -> Tensor:
    """Place of each component in the order of the frames."""
    return torch.argsort(_order(lmax, device))
