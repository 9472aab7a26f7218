"""What chemistry knows of a molecule beside elements and positions as inputs: molecular graph, total charge and spin.

Whole numbers become embeddings, added to degree 0 of the nodes and to the features of the edges; they are invariant.
Where a structure has no molecular graph, each feature of its atoms and edges is "unknown", with an embedding too.
Letters: N nodes, B graphs, E edges, C channels, F edge features.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from molformer.data.molecular_graph import UNKNOWN
from molformer.graph.topology import NUM_CODES, edge_codes

if TYPE_CHECKING:
    from molformer.graph import GraphBatch

_RANGES = ((-8, 8), (0, 8), (0, 1), (0, 4), (0, 9), (0, 2))
"""Range of each of `data.molecular_graph.ATOM_FEATURES`, beyond which the upper end counts; the last is chirality."""

_MOST = 8
"""Largest total charge, of either sign, and largest multiplicity that are told from larger ones."""


class AtomEmbedding(nn.Module):
    """A sum of embeddings, one for each feature of an atom: x⁰_i = Σ_k E_k[a_ik].

    Args:
        channels: C.
        chirality: whether the chirality is one of them, which a mirror changes.

    Example:
        >>> from molformer.data.conformers import embed_smiles
        >>> from molformer.graph import GraphBatch
        >>> AtomEmbedding(8, chirality=True)(GraphBatch.from_structures([embed_smiles("O")])).shape
        torch.Size([3, 8])
    """

    def __init__(self, channels: int, chirality: bool) -> None:
        super().__init__()
        ranges = _RANGES if chirality else _RANGES[:-1]
        self.embeddings = nn.ModuleList(nn.Embedding(high - low + 2, channels) for low, high in ranges)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=len(ranges) ** -0.5)  # type: ignore[arg-type]

    def forward(self, graph: "GraphBatch") -> Tensor:
        """Features (N, C) of the atoms of a batch."""
        columns = zip(self.embeddings, _RANGES, _atom_features(graph).unbind(1), strict=False)
        parts = [embed((value.clamp(max=high) - low + 1).clamp(min=0)) for embed, (low, high), value in columns]
        return torch.stack(parts).sum(0)


class StateEmbedding(nn.Module):
    """Embeddings of total charge and multiplicity, the same for all nodes of a graph.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.charge = nn.Embedding(2 * _MOST + 1, channels)
        self.spin = nn.Embedding(_MOST, channels)

    def forward(self, graph: "GraphBatch") -> Tensor:
        """Features (N, C) of a batch."""
        charge = graph.charge.round().long().clamp(-_MOST, _MOST)
        spin = torch.ones_like(charge) if graph.spin is None else graph.spin.clamp(1, _MOST)
        return (self.charge(charge + _MOST) + self.spin(spin - 1)).index_select(0, graph.batch)


class BondEmbedding(nn.Embedding):
    """Embeddings of what lies between the ends of edges, see `graph.topology`.

    Args:
        features: F.
    """

    def __init__(self, features: int) -> None:
        super().__init__(NUM_CODES, features)

    def forward(self, graph: "GraphBatch", src: Tensor, dst: Tensor) -> Tensor:  # type: ignore[override]
        """Features (E, F) of edges src → dst, (E,) each."""
        if graph.bonds is None or graph.bond_features is None:
            return super().forward(torch.zeros_like(src))
        known = _atom_features(graph)[:, 0] != UNKNOWN
        return super().forward(edge_codes(known, graph.bonds, graph.bond_features, src, dst))


class DropGraph(nn.Module):
    """Takes the molecular graph from some structures of a batch, in training: one model then learns with and without.

    Args:
        drop: probability for each structure.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, graph: "GraphBatch") -> "GraphBatch":
        """The batch, some of whose structures have no molecular graph any more."""
        if not self.training or not self.drop or graph.atom_features is None:
            return graph
        dropped = (torch.rand(graph.num_graphs, device=graph.pos.device) < self.drop).index_select(0, graph.batch)
        return replace(graph, atom_features=graph.atom_features.masked_fill(dropped[:, None], UNKNOWN))


def _atom_features(graph: "GraphBatch") -> Tensor:
    if graph.atom_features is not None:
        return graph.atom_features
    return torch.full((len(graph.pos), len(_RANGES)), UNKNOWN, device=graph.pos.device)
