"""Edges of periodic structures: to the images of atoms in neighbouring cells too.

An edge src → dst with cell shift s is the vector pos[dst] - pos[src] + s · cell. Only images within the cutoff of a
cell are made, and both images and edges are counted before they are made, so that no cell takes all memory.
Letters: N nodes, E edges, B graphs; n atoms and I images of one structure.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from molformer.errors import TooLargeError
from molformer.graph.neighbors import radius_edges

MOST_IMAGES, MOST_EDGES = 1 << 24, 1 << 27  # images of the atoms of a structure, and its edges, at most: some GB


def periodic_edges(pos: Tensor, ptr: Tensor, cell: Tensor, pbc: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Edges at most `cutoff` long of graphs of which some are periodic; the others are searched as without a cell.

    An atom can be its own neighbour, through its image, and two atoms can have several edges.

    Args:
        pos: positions (N, 3), Å.
        ptr: first node of each graph and N (B+1,).
        cell: lattice vectors as rows (B, 3, 3), Å; zeros for a graph that is not periodic.
        pbc: which lattice vectors are periodic (B, 3).
        cutoff: Å.

    Returns:
        src (E,), dst (E,), sorted by dst, and the cell shifts (E, 3), on the device of `pos`.

    Raises:
        TooLargeError: a structure would have more than `MOST_IMAGES` or `MOST_EDGES`.

    Example:
        >>> chain = torch.diag(torch.tensor([2.0, 9.0, 9.0]))[None]
        >>> periodic = torch.tensor([[True, False, False]])
        >>> periodic_edges(torch.zeros(1, 3), torch.tensor([0, 1]), chain, periodic, cutoff=2.5)[2].tolist()
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    cells, flags = cell.detach().cpu().double().numpy(), pbc.cpu().numpy()
    sources, targets, shifts = [], [], []
    for graph, (start, stop) in enumerate(zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)):
        mine = pos[start:stop]
        if flags[graph].any():
            found = _edges(mine.detach().cpu().double().numpy(), cells[graph], flags[graph], cutoff)
            src, dst, shift = (torch.from_numpy(part).to(pos.device) for part in found)
        else:
            src, dst = radius_edges(mine, mine.new_tensor([0, stop - start], dtype=torch.long), cutoff)
            shift = mine.new_zeros(len(src), 3)
        sources.append(src + start)
        targets.append(dst + start)
        shifts.append(shift.to(pos))
    return torch.cat(sources), torch.cat(targets), torch.cat(shifts)


def count_periodic(pos: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> int:
    """Number of edges of one periodic structure, without making them; the arguments are those of `periodic_edges`.

    Raises:
        TooLargeError: there would be more than `MOST_IMAGES`.
    """
    _, home, images, _, _ = _images(pos, cell, pbc, cutoff)
    return int(home.count_neighbors(images, cutoff)) - len(pos)


def _edges(
    pos: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges src (E,), dst (E,) and shifts (E, 3) of a structure, sorted by dst."""
    moves, home, images, atoms, grid = _images(pos, cell, pbc, cutoff)
    _refuse_many(home.count_neighbors(images, cutoff), MOST_EDGES, "edges")
    pairs = home.sparse_distance_matrix(images, cutoff, output_type="ndarray")
    dst, src = pairs["i"], atoms[pairs["j"]]
    shift = moves[src] - moves[dst] - grid[pairs["j"]]
    order = np.lexsort((pairs["j"], dst))
    order = order[(src != dst)[order] | shift.any(axis=1)[order]]
    return src[order], dst[order], shift[order]


def _images(
    pos: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, cKDTree, cKDTree, np.ndarray, np.ndarray]:
    """The atoms in the cell and their images around it.

    Returns:
        Cells by which each atom was moved to be in the first one (n, 3), the tree of the atoms there, the tree of the
        images within the cutoff of this cell, the atom (I,) and the cell (I, 3) of each image.
    """
    inverse = np.linalg.inv(cell)
    places = pos @ inverse
    moves = np.where(pbc, np.floor(places), 0.0)
    places -= moves
    reach = np.where(pbc, cutoff * np.linalg.norm(inverse, axis=0) * (1 + 1e-9), 0.0)  # in cells
    _refuse_many(len(pos) * float(np.prod(2 * np.ceil(reach) + 1)), MOST_IMAGES, "images")
    cells = np.stack(np.meshgrid(*(np.arange(r, -r - 1, -1) for r in np.ceil(reach)), indexing="ij"), -1).reshape(-1, 3)
    near = (np.abs(places + cells[:, None] - 0.5) <= 0.5 + reach) | ~pbc
    grid, atoms = near.all(axis=-1).nonzero()
    images = (places[atoms] + cells[grid]) @ cell
    return moves, cKDTree(places @ cell), cKDTree(images), atoms, cells[grid]


def _refuse_many(count: float, most: int, what: str) -> None:
    if count > most:
        raise TooLargeError(f"{count:.3g} {what} of a periodic structure are more than {most}: check cell and cutoff")
