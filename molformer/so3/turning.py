"""Turning features into the frames of edges and back.

Up to `DENSE_LMAX` the Wigner matrices of an edge are one matrix (M, M) with its zeros, since one product is fastest.
Beyond, they are the blocks of the degrees, whose size grows with the third power of lmax instead of the fourth.

Letters: E edges, M = (lmax+1)² components, C channels, S = Σ_l (2l+1)², l = 1 … lmax, numbers of the blocks.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from molformer.so3.components import degree_slice, frame_order, lmax_of, num_components
from molformer.so3.kept import kept

DENSE_LMAX = 3


def turn_in(frames: Tensor, x: Tensor) -> Tensor:
    """Features (E, M, C) in the common frame to those in the frames, sorted by |m|.

    Args:
        frames: (E, M, M) or (E, S), see `edge_frames` and `frame_blocks`.
        x: features.
    """
    frames = frames.to(x.dtype)
    if frames.ndim == 3:
        return torch.bmm(frames, x)
    parts = [torch.bmm(block, x[:, part]) for part, block in _blocks(frames, lmax_of(x.shape[1]))]
    return torch.cat([x[:, :1], *parts], dim=1).index_select(1, _order(lmax_of(x.shape[1]), x.device))


def turn_back(frames: Tensor, x: Tensor) -> Tensor:
    """The inverse of `turn_in`."""
    frames = frames.to(x.dtype)
    if frames.ndim == 3:
        return torch.bmm(frames.transpose(1, 2), x)
    x = x.index_select(1, _places(lmax_of(x.shape[1]), x.device))
    parts = [torch.bmm(block.transpose(1, 2), x[:, part]) for part, block in _blocks(frames, lmax_of(x.shape[1]))]
    return torch.cat([x[:, :1], *parts], dim=1)


def frames_gradient(frames: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Gradient of Σ ⟨y, turn_in(frames, x)⟩ with respect to the frames, in their shape.

    Args:
        frames: (E, M, M) or (E, S).
        pairs: y in the frames and x in the common frame, (E, M, C) each.
    """
    if frames.ndim == 3:
        gradient = torch.zeros_like(frames)
        for y, x in pairs:
            gradient.baddbmm_(y.to(frames.dtype), x.to(frames.dtype).transpose(1, 2))
        return gradient
    lmax = lmax_of(pairs[0][0].shape[1])
    pairs = [(y.index_select(1, _places(lmax, y.device)).to(frames.dtype), x.to(frames.dtype)) for y, x in pairs]
    gradient = torch.zeros_like(frames)
    for part, block in _blocks(gradient, lmax):
        for y, x in pairs:
            block.baddbmm_(y[:, part], x[:, part].transpose(1, 2))
    return gradient


def dense(frames: Tensor, lmax: int) -> Tensor:
    """The whole matrices (E, M, M) of frames in either form."""
    if frames.ndim == 3:
        return frames
    identity = torch.eye(num_components(lmax), dtype=frames.dtype, device=frames.device)
    return turn_in(frames, identity.expand(len(frames), -1, -1))


def _blocks(frames: Tensor, lmax: int) -> Iterator[tuple[slice, Tensor]]:
    """Components of each degree from 1 on, and the view (E, 2l+1, 2l+1) of its block."""
    start = 0
    for degree in range(1, lmax + 1):
        size = 2 * degree + 1
        yield degree_slice(degree), frames[:, start : start + size * size].unflatten(1, (size, size))
        start += size * size


@kept
def _order(lmax: int, device: torch.device) -> Tensor:
    return torch.tensor(frame_order(lmax), device=device)


@kept
def _places(lmax: int, device: torch.device) -> Tensor:
    """Place of each component in the order of the frames."""
    return torch.argsort(_order(lmax, device))
