"""Edges of a batch of graphs: within a radius, to the nearest nodes, or with periodic images."""

from torch import Tensor

from molformer.errors import InputError
from molformer.graph.batch import GraphBatch
from molformer.graph.neighbors import radius_edges


def find_edges(graph: GraphBatch, cutoff: float, nearest: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    """Edges of a batch, with periodic images or without.

    Args:
        graph: N nodes of B graphs.
        cutoff: Å.
        nearest: neighbors of a node, whatever the cutoff; 0 for all within it.

    Returns:
        src (E,), dst (E,), sorted, and, where a graph is periodic, the cells that are crossed (E, 3).

    Raises:
        InputError: the nearest neighbors of a periodic structure are wanted.
    """
    if graph.cell is not None and graph.pbc is not None:
        if nearest:
            raise InputError("a model of nearest neighbors (`max_neighbors`) cannot take periodic structures")
        from molformer.graph.periodic import periodic_edges

        return periodic_edges(graph.pos, graph.ptr, graph.cell, graph.pbc, cutoff)
    if nearest:
        from molformer.graph.knn import knn_edges

        return *knn_edges(graph.pos, graph.ptr, nearest), None
    return *radius_edges(graph.pos, graph.ptr, cutoff), None
