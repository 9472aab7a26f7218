"""Radius graphs: all pairs of nodes of a graph closer than a cutoff, without a limit on their number.

A limit on the neighbours of a node would have to choose among equally near ones, and break equivariance.
"""

import torch
from torch import Tensor


def radius_edges(pos: Tensor, ptr: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Edges between different nodes of the same graph at most `cutoff` apart, on the device of `pos`.

    Args:
        pos: positions (N, 3), Å.
        ptr: first node of each graph and N (B+1,).
        cutoff: Å.

    Returns:
        src (E,) and dst (E,), sorted by dst and then by src; every edge in both directions.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]])
        >>> radius_edges(pos, torch.tensor([0, 3]), cutoff=5.0)
        (tensor([1, 0]), tensor([0, 1]))
    """
    sizes = ptr.diff()
    partners = sizes.repeat_interleave(sizes)  # candidates of each node (N,)
    first = ptr[:-1].repeat_interleave(sizes)  # first node of its graph (N,)
    dst = torch.arange(len(pos), device=pos.device).repeat_interleave(partners)
    start = partners.cumsum(0) - partners
    src = torch.arange(len(dst), device=pos.device) - (start - first).repeat_interleave(partners)
    with torch.no_grad():
        near = ((pos[dst] - pos[src]).square().sum(-1) < cutoff**2) & (src != dst)
    return src[near], dst[near]
