"""Edges from the k nearest nodes of a graph; of equally near ones, those of lower index.

They are meant for clouds whose distances are all different: among ties the choice breaks equivariance.
Letters: N nodes, E edges, B graphs.
"""

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from molformer.errors import InputError
from molformer.graph.tree import sorted_edges, with_graph


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
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]])
        >>> knn_edges(pos, torch.tensor([0, 3]), k=1)
        (tensor([1, 0, 1]), tensor([0, 1, 2]))
    """
    if k < 1:
        raise InputError(f"{k} neighbours of a node: use at least 1")
    points = with_graph(pos, ptr, reach=None)
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
    return sorted_edges(src, dst, pos)


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
