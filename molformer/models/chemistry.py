"""Chemistry: what is known of a molecule beside elements and positions, as inputs of an encoder.

Features of atoms, the bond or distance along bonds between the ends of an edge, total charge and multiplicity become
embeddings, which are invariant. Where a structure has no molecular graph, its features are "unknown", which is one too.
Letters: N nodes, E edges, C channels, F edge features.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from molformer.graph.topology import NUM_CODES, edge_codes
from molformer.molecular_graph import UNKNOWN

if TYPE_CHECKING:
    from molformer.graph import GraphBatch

_RANGES = ((-8, 8), (0, 8), (0, 1), (0, 4), (0, 9), (0, 2))
"""Range of each of `data.molecular_graph.ATOM_FEATURES`, beyond which the upper end counts; the last is chirality."""

_MOST = 8  # largest total charge, of either sign, and largest multiplicity with an embedding of their own


class Chemistry(nn.Module):
    """Embeddings a_k of molecular graphs, of total charge and multiplicity, or of both: x⁰_i = Σ_k a_k[i].

    Without molecular graphs F is 0. Chirality, which a mirror changes, may be left out. With probability `drop` a
    structure loses its molecular graph in a step of training.

    Example:
        >>> from molformer.data.conformers import embed_smiles
        >>> from molformer.graph import GraphBatch
        >>> Chemistry(channels=8, features=16).embed_nodes(GraphBatch.from_structures([embed_smiles("O")])).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, channels: int, features: int = 0, chirality: bool = True, state: bool = False, drop: float = 0.0
    ) -> None:
        super().__init__()
        ranges = _RANGES[: (5 + chirality) * bool(features)]
        self.drop = drop
        self.atoms = nn.ModuleList(nn.Embedding(high - low + 2, channels) for low, high in ranges)
        for embedding in self.atoms:
            nn.init.normal_(embedding.weight, std=len(ranges) ** -0.5)  # type: ignore[arg-type]
        self.bonds = nn.Embedding(NUM_CODES, features) if features else None
        self.charge = nn.Embedding(2 * _MOST + 1, channels) if state else None
        self.spin = nn.Embedding(_MOST, channels) if state else None

    def embed_nodes(self, graph: "GraphBatch") -> Tensor:
        """Features of degree 0 (N, C)."""
        columns = zip(self.atoms, _RANGES, _atom_features(graph).unbind(1), strict=False)
        parts = [embed((value.clamp(max=high) - low + 1).clamp(min=0)) for embed, (low, high), value in columns]
        if self.charge is not None and self.spin is not None:
            charge = graph.charge.round().long().clamp(-_MOST, _MOST)
            spin = torch.ones_like(charge) if graph.spin is None else graph.spin.clamp(1, _MOST)
            parts.append((self.charge(charge + _MOST) + self.spin(spin - 1)).index_select(0, graph.batch))
        return torch.stack(parts).sum(0)

    def embed_edges(self, graph: "GraphBatch", src: Tensor, dst: Tensor) -> Tensor | None:
        """Features (E, F) of edges src → dst, None without molecular graphs as inputs."""
        if self.bonds is None:
            return None
        if graph.bonds is None or graph.bond_features is None:
            return self.bonds(torch.zeros_like(src))
        known = _atom_features(graph)[:, 0] != UNKNOWN
        return self.bonds(edge_codes(known, graph.bonds, graph.bond_features, src, dst))

    def drop_graphs(self, graph: "GraphBatch") -> "GraphBatch":
        """The batch; in training, some structures have lost their molecular graph, to learn to do without."""
        if not self.training or not self.drop or graph.atom_features is None:
            return graph
        dropped = (torch.rand(graph.num_graphs, device=graph.pos.device) < self.drop).index_select(0, graph.batch)
        return replace(graph, atom_features=graph.atom_features.masked_fill(dropped[:, None], UNKNOWN))


def _atom_features(graph: "GraphBatch") -> Tensor:
    if graph.atom_features is not None:
        return graph.atom_features
    return torch.full((len(graph.pos), len(_RANGES)), UNKNOWN, device=graph.pos.device)
