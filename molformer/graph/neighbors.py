"""Edges between near nodes of a graph: all within a radius.

The number of neighbors has no limit: it would have to choose among equally near ones, and break equivariance.

Small graphs compare all pairs on their device; large ones search a k-d tree on the CPU, see `graph.tree`.
Letters: N nodes, E edges, B graphs.
"""

from math import isfinite

import torch
from torch import Tensor

_TREE_PAIRS = {"cpu": 1 << 16}
_TREE_PAIRS_ELSEWHERE = 1 << 26  # pairs from which on a tree is faster, or they no longer fit into memory


def radius_edges(pos: Tensor, ptr: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Edges between different nodes of the same graph less than `cutoff` apart.

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
    pairs = int(ptr.diff().square().sum())
    if pairs > _TREE_PAIRS.get(pos.device.type, _TREE_PAIRS_ELSEWHERE) and isfinite(cutoff):
        from molformer.graph.tree import near_pairs

        src, dst = near_pairs(pos, ptr, cutoff)
    else:
        src, dst = _all_pairs(pos, ptr)
    with torch.no_grad():
        near = ((pos[dst] - pos[src]).square().sum(-1) < cutoff**2) & (src != dst)
    return src[near], dst[near]


def _all_pairs(pos: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Every pair of nodes of a graph, each with itself too, sorted by dst and then by src."""
    if len(ptr) == 2:  # as is most often asked for, and at once
        nodes = torch.arange(len(pos), device=pos.device)
        return nodes.repeat(len(pos)), nodes.repeat_interleave(len(pos))
    sizes = ptr.diff()
    partners = sizes.repeat_interleave(sizes)  # candidates of each node (N,)
    first = ptr[:-1].repeat_interleave(sizes)  # first node of its graph (N,)
    dst = torch.arange(len(pos), device=pos.device).repeat_interleave(partners)
    start = partners.cumsum(0) - partners
    src = torch.arange(len(dst), device=pos.device) - (start - first).repeat_interleave(partners)
    return src, dst
