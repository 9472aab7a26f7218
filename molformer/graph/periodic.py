"""Edges of periodic structures: to the images of atoms in neighbouring cells too, found by vesin.

An edge src → dst with cell shift s is the vector pos[dst] - pos[src] + s · cell. Letters: N nodes, E edges, B graphs.
"""

import torch
from torch import Tensor
from vesin import NeighborList


def periodic_edges(pos: Tensor, ptr: Tensor, cell: Tensor, pbc: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Edges at most `cutoff` long of graphs of which some are periodic.

    An atom can be its own neighbour, through its image, and two atoms can have several edges.

    Args:
        pos: positions (N, 3), Å.
        ptr: first node of each graph and N (B+1,).
        cell: lattice vectors as rows (B, 3, 3), Å; zeros for a graph that is not periodic.
        pbc: which lattice vectors are periodic (B, 3).
        cutoff: Å.

    Returns:
        src (E,), dst (E,), sorted by dst, and the cell shifts (E, 3), on the device of `pos`.

    Example:
        >>> chain = torch.diag(torch.tensor([2.0, 9.0, 9.0]))[None]
        >>> periodic = torch.tensor([[True, False, False]])
        >>> periodic_edges(torch.zeros(1, 3), torch.tensor([0, 1]), chain, periodic, cutoff=2.5)[2].tolist()
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    points, cells, flags = (value.detach().cpu().double().numpy() for value in (pos, cell, pbc))
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    sources, targets, shifts = [], [], []
    for graph, (start, stop) in enumerate(zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)):
        src, dst, shift = search.compute(points[start:stop], cells[graph], flags[graph].astype(bool), "ijS")
        sources.append(torch.as_tensor(src.astype("int64")) + start)
        targets.append(torch.as_tensor(dst.astype("int64")) + start)
        shifts.append(torch.as_tensor(shift.astype("float64")))
    src, dst, shift = torch.cat(sources), torch.cat(targets), torch.cat(shifts)
    order = torch.argsort(dst, stable=True)
    return src[order].to(pos.device), dst[order].to(pos.device), shift[order].to(pos)
