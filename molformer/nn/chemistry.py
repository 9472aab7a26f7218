"""What chemistry knows of a molecule, beside elements and positions, as inputs: its molecular graph, charge and spin.

Whole numbers become embeddings, which are added to the degree 0 of the nodes and to the features of the edges; they are
invariant, so that symmetry stays as it is. Where a structure has no molecular graph, each of them is "unknown".
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

_LOWEST = (-4, 0, 0, 0, 0, 0)
_HIGHEST = (4, 8, 1, 4, 9, 2)
"""Range of each of `data.molecular_graph.ATOM_FEATURES`; what lies beyond counts as its end. The last is chirality."""

_MOST_CHARGE = 8
_MOST_SPIN = 8


class AtomEmbedding(nn.Module):
    """A sum of embeddings, one for each feature of an atom: x⁰_i = Σ_k E_k[a_ik].

    Args:
        channels: C.
        chirality: whether the chirality is one of them, which changes sign in a mirror.

    Example:
        >>> from molformer.data.conformers import embed_smiles
        >>> from molformer.graph import GraphBatch
        >>> AtomEmbedding(8, chirality=True)(GraphBatch.from_structures([embed_smiles("O")])).shape
        torch.Size([3, 8])
    """

    lowest: Tensor
    highest: Tensor
    start: Tensor

    def __init__(self, channels: int, chirality: bool) -> None:
        super().__init__()
        columns = len(_LOWEST) - (not chirality)
        lowest, highest = torch.tensor(_LOWEST[:columns]), torch.tensor(_HIGHEST[:columns])
        sizes = highest - lowest + 2  # the first of each is for unknown
        self.register_buffer("lowest", lowest, persistent=False)
        self.register_buffer("highest", highest, persistent=False)
        self.register_buffer("start", sizes.cumsum(0) - sizes, persistent=False)
        self.embedding = nn.Embedding(int(sizes.sum()), channels)
        nn.init.normal_(self.embedding.weight, std=columns**-0.5)

    def forward(self, graph: "GraphBatch") -> Tensor:
        """Features (N, C) of the molecular graph of a batch."""
        if graph.atom_features is None:
            return self.embedding(self.start).sum(0).expand(len(graph.pos), -1)
        values = graph.atom_features[:, : len(self.lowest)]
        codes = torch.clamp(values, self.lowest, self.highest) - self.lowest + 1
        return self.embedding(self.start + codes * is_known(graph)[:, None]).sum(1)


class StateEmbedding(nn.Module):
    """Embeddings of total charge and multiplicity, the same for all nodes of a graph.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.charge = nn.Embedding(2 * _MOST_CHARGE + 1, channels)
        self.spin = nn.Embedding(_MOST_SPIN, channels)

    def forward(self, graph: "GraphBatch") -> Tensor:
        """Features (N, C) of a batch."""
        charge = graph.charge.round().long().clamp(-_MOST_CHARGE, _MOST_CHARGE)
        spin = torch.ones_like(charge) if graph.spin is None else graph.spin.clamp(1, _MOST_SPIN)
        return (self.charge(charge + _MOST_CHARGE) + self.spin(spin - 1)).index_select(0, graph.batch)


class BondEmbedding(nn.Embedding):
    """Embeddings of what lies between the ends of edges, see `graph.topology`.

    Args:
        features: F.
    """

    def __init__(self, features: int) -> None:
        super().__init__(NUM_CODES, features)

    def forward(self, graph: "GraphBatch", src: Tensor, dst: Tensor) -> Tensor:  # type: ignore[override]
        """Features (E, F) of edges src → dst, (E,) each."""
        if graph.bonds is None or graph.bond_features is None or graph.atom_features is None:
            return super().forward(torch.zeros_like(src))
        return super().forward(edge_codes(is_known(graph), graph.bonds, graph.bond_features, src, dst))


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
        dropped = torch.rand(graph.num_graphs, device=graph.pos.device) < self.drop
        dropped = dropped.index_select(0, graph.batch)
        return replace(graph, atom_features=graph.atom_features.masked_fill(dropped[:, None], UNKNOWN))

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"drop={self.drop:g}"


def is_known(graph: "GraphBatch") -> Tensor:
    """Whether the structure of each node (N,) has a molecular graph; for a batch in which some have."""
    assert graph.atom_features is not None
    return graph.atom_features[:, 0] != UNKNOWN
