"""Chemistry: what is known of a molecule beside elements and positions as inputs of an encoder.

Letters: N nodes, E edges, C channels, F edge features.
"""

from torch import Tensor, nn

from molformer.graph.batch import GraphBatch
from molformer.models.config import SE3TransformerConfig
from molformer.nn.chemistry import AtomEmbedding, BondEmbedding, DropGraph, StateEmbedding


class Chemistry(nn.Module):
    """Embeddings of the molecular graph, of total charge and multiplicity, or of both.

    Args:
        config: of the encoder; under E(3) chirality is no input, which a mirror would change.
    """

    def __init__(self, config: SE3TransformerConfig) -> None:
        super().__init__()
        self.nodes = nn.ModuleList()
        self.bonds = None
        if config.molecular_graph:
            self.nodes.append(AtomEmbedding(config.channels, chirality=config.group == "SE(3)"))
            self.bonds = BondEmbedding(config.edge_features)
        if config.charge_and_spin:
            self.nodes.append(StateEmbedding(config.channels))
        self.drop_graph = DropGraph(config.drop_graph)

    def embed_nodes(self, graph: GraphBatch) -> Tensor:
        """Features of degree 0 (N, C)."""
        return sum((embed(graph) for embed in self.nodes), graph.pos.new_zeros(()))

    def embed_edges(self, graph: GraphBatch, src: Tensor, dst: Tensor) -> Tensor | None:
        """Features (E, F) of edges src → dst, None without molecular graphs as inputs."""
        return None if self.bonds is None else self.bonds(graph, src, dst)
