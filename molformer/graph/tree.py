"""Search for neighbors of large graphs in a k-d tree, on the CPU.

One tree holds a whole batch: the graph is a fourth coordinate, spread so far that nodes of different graphs are never
near. Letters: N nodes, E edges, B graphs.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor


def near_pairs(pos: Tensor, ptr: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs within the cutoff, and some at it that rounding may put on either side; sorted by dst and then by src."""
    reach = cutoff * (1 + 8 * torch.finfo(pos.dtype).eps)
    points = with_graph(pos, ptr, reach)
    lost = ~np.isfinite(points).all(axis=1)  # has no neighbours, as if it were far from all others
    points[lost] = 0.0
    points[lost, 0] = points[:, 0].max(initial=0.0) + 2 * reach * np.arange(1, lost.sum() + 1)
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    return sorted_edges([pairs[:, 0], pairs[:, 1]], [pairs[:, 1], pairs[:, 0]], pos)


def with_graph(pos: Tensor, ptr: Tensor, reach: float | None) -> np.ndarray:
    """Positions (N, 3), or (N, 4) with the graphs of a batch farther apart than `reach`, or than any is wide."""
    points = pos.detach().cpu().double().numpy().copy()
    sizes = ptr.diff().cpu().numpy()
    if len(sizes) <= 1 or len(points) == 0:
        return points
    apart = 2 * reach if reach is not None else 2 * float(np.linalg.norm(np.ptp(points, axis=0))) + 1.0
    return np.concatenate([points, apart * np.repeat(np.arange(len(sizes)), sizes)[:, None]], axis=1)


def sorted_edges(src: list[np.ndarray], dst: list[np.ndarray], pos: Tensor) -> tuple[Tensor, Tensor]:
    """Edges (E,) in some pieces, sorted by dst and then by src, on the device of the positions."""
    nodes = max(len(pos), 1)
    key = np.concatenate([*dst, np.zeros(0, np.int64)]) * nodes + np.concatenate([*src, np.zeros(0, np.int64)])
    key.sort()
    edges = torch.from_numpy(np.stack([key % nodes, key // nodes])).to(pos.device)
    return edges[0], edges[1]
