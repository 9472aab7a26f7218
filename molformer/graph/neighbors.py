"""Edges between near nodes of a graph: all within a radius, or the k nearest.

A radius has no limit on the number of neighbours: a limit would have to choose among equally near ones, and break
equivariance. The k nearest do choose so (by index), and are meant for clouds whose distances are all different.

Small graphs compare all pairs on their device; large ones search a k-d tree on the CPU. One tree holds the whole
batch: the graph is a fourth coordinate, spread so far that nodes of different graphs are never near.
Letters: N nodes, E edges, B graphs.
"""

from math import isfinite

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from molformer.errors import InputError

_TREE_PAIRS = {"cpu": 1 << 16}
_TREE_PAIRS_ELSEWHERE = 1 << 26
"""Pairs of a batch from which on a tree is faster, or its pairs no longer fit into the memory of a device."""


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
        src, dst = _near_pairs(pos, ptr, cutoff)
    else:
        src, dst = _all_pairs(pos, ptr)
    with torch.no_grad():
        near = ((pos[dst] - pos[src]).square().sum(-1) < cutoff**2) & (src != dst)
    return src[near], dst[near]


def knn_edges(pos: Tensor, ptr: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Edges to each node from the k nearest others of its graph; of equally near ones, those of lower index.

    Args:
        pos: positions (N, 3), Å.
        ptr: first node of each graph and N (B+1,).
        k: neighbours of a node; a graph of n nodes has min(k, n-1).

    Returns:
        src (E,) and dst (E,), sorted by dst and then by src. Edges have a direction: i may be near j in this sense
        where j is not near i.

    Raises:
        InputError: a position is not finite, or k is less than 1.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]])
        >>> knn_edges(pos, torch.tensor([0, 3]), k=1)
        (tensor([1, 0, 1]), tensor([0, 1, 2]))
    """
    if k < 1:
        raise InputError(f"{k} neighbours of a node: use at least 1")
    points = _with_graph(pos, ptr, reach=None)
    if not np.isfinite(points).all():
        raise InputError(f"the position of node {np.argwhere(~np.isfinite(points))[0, 0] + 1} is not a finite number")
    sizes = ptr.diff().cpu().numpy()
    wanted = np.minimum(k, np.repeat(sizes, sizes) - 1)  # (N,)
    tree = cKDTree(points)
    # Where nothing is tied, the first one found is the node itself and the next k are its neighbours.
    distance, index = tree.query(points, k=k + 2, workers=-1)
    clear = (wanted == k) & (index[:, 0] == np.arange(len(points))) & (distance[:, 1] > 0)
    clear &= distance[:, k + 1] > distance[:, k] * (1 + 1e-9)
    src, dst = [index[clear, 1:-1].ravel()], [np.flatnonzero(clear).repeat(k)]
    left, count = np.flatnonzero(~clear & (wanted > 0)), 2 * (k + 2)
    while len(left):
        count = min(count, len(points))
        near, order, certain = _nearest(tree, points, left, count)
        # A node is done if all that are as near as its last neighbour are among the candidates.
        rank = wanted[left] - 1
        last = np.take_along_axis(near, rank[:, None], axis=1)[:, 0]
        done = (last < certain) | (count == len(points))
        chosen = np.arange(count) <= rank[done, None]
        src.append(order[done][chosen])
        dst.append(left[done].repeat(rank[done] + 1))
        left, count = left[~done], 2 * count
    return _sorted_edges(src, dst, pos)


def _nearest(
    tree: cKDTree, points: np.ndarray, nodes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared distances and indices of the nodes near `nodes`, sorted, and the distance within which none is absent."""
    distance, index = tree.query(points[nodes], k=count, workers=-1)
    index.sort(axis=1)
    square = np.zeros(index.shape)
    for axis in range(points.shape[1]):
        square += (points[index, axis] - points[nodes, axis, None]) ** 2
    square[index == nodes[:, None]] = np.inf
    order = np.argsort(square, axis=1, kind="stable")
    certain = distance[:, -1] ** 2 * (1 - 1e-12)
    return np.take_along_axis(square, order, axis=1), np.take_along_axis(index, order, axis=1), certain


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


def _near_pairs(pos: Tensor, ptr: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs within the cutoff, and some at it that rounding may put on either side; sorted like `_all_pairs`."""
    reach = cutoff * (1 + 8 * torch.finfo(pos.dtype).eps)
    points = _with_graph(pos, ptr, reach)
    lost = ~np.isfinite(points).all(axis=1)  # has no neighbours, as if it were far from all others
    points[lost] = 0.0
    points[lost, 0] = points[:, 0].max(initial=0.0) + 2 * reach * np.arange(1, lost.sum() + 1)
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    return _sorted_edges([pairs[:, 0], pairs[:, 1]], [pairs[:, 1], pairs[:, 0]], pos)


def _with_graph(pos: Tensor, ptr: Tensor, reach: float | None) -> np.ndarray:
    """Positions (N, 3), or (N, 4) with the graphs of a batch farther apart than `reach`, or than any is wide."""
    points = pos.detach().cpu().double().numpy().copy()
    sizes = ptr.diff().cpu().numpy()
    if len(sizes) <= 1 or len(points) == 0:
        return points
    apart = 2 * reach if reach is not None else 2 * float(np.linalg.norm(np.ptp(points, axis=0))) + 1.0
    return np.concatenate([points, apart * np.repeat(np.arange(len(sizes)), sizes)[:, None]], axis=1)


def _sorted_edges(src: list[np.ndarray], dst: list[np.ndarray], pos: Tensor) -> tuple[Tensor, Tensor]:
    nodes = max(len(pos), 1)
    key = np.concatenate([*dst, np.zeros(0, np.int64)]) * nodes + np.concatenate([*src, np.zeros(0, np.int64)])
    key.sort()
    edges = torch.from_numpy(np.stack([key % nodes, key // nodes])).to(pos.device)
    return edges[0], edges[1]
