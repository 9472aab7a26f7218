"""Encoder: what every network from atoms and positions to features has: species, inputs, and edges to be found.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, V input vectors, S input numbers.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.elements import MAX_NUMBER
from molformer.graph.batch import GraphBatch
from molformer.graph.edges import find_edges
from molformer.models.config import SE3TransformerConfig
from molformer.nn.edges import Edges
from molformer.so3.components import num_components


class Encoder(nn.Module, ABC):
    """Equivariant features of every node; `SE3Transformer` and `PaperTransformer` are such."""

    blocks: nn.ModuleList
    out_lmax: int
    """Highest degree of the features that come out."""
    out_channels: int
    """Channels of the features that come out."""

    def __init__(self, config: SE3TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.species = nn.Embedding(MAX_NUMBER + 1, config.channels)
        self.inputs = None
        if config.all_vectors or config.input_scalars:
            from molformer.nn.inputs import NodeInputs

            self.inputs = NodeInputs(config.lmax, config.all_vectors, config.input_scalars, config.channels)
        self.chemistry = None
        if config.molecular_graph or config.charge_and_spin:
            from molformer.models.chemistry import Chemistry

            features = config.edge_features if config.molecular_graph else 0
            chirality = config.group == "SE(3)"
            self.chemistry = Chemistry(config.channels, features, chirality, config.charge_and_spin, config.drop_graph)

    @abstractmethod
    def forward(self, graph: GraphBatch, x: Tensor | None = None) -> Tensor:
        """Node features of a batch of graphs.

        Args:
            graph: nodes of B graphs, with edges or without.
            x: equivariant input features (N, M, C) to be added to those of the species.

        Returns:
            Features (N, M, C); component (l, m) at index l² + l + m.
        """

    @abstractmethod
    def embed_edges(self, graph: GraphBatch) -> Edges:
        """Frames, radial features and envelopes of all edges."""

    def embed_nodes(self, graph: GraphBatch, features: Tensor | None = None) -> Tensor:
        """Features (N, M, C) of the species, zero but for degree 0, plus those given and those of further inputs."""
        scalars = self.species(graph.numbers)
        if self.chemistry is not None:
            scalars = scalars + self.chemistry.embed_nodes(graph)
        x = functional.pad(scalars[:, None], (0, 0, 0, num_components(self.config.lmax) - 1))
        if self.inputs is not None:
            x = x + self.inputs(*self.given(graph))
        return x if features is None else x + features

    def given(self, graph: GraphBatch) -> tuple[Tensor, ...]:
        """Vectors (N, V, 3) and scalars (N, S) of the nodes, see `models.inputs`; nothing if the model takes none."""
        if self.inputs is None:
            return ()
        from molformer.models.inputs import given_inputs

        vectors, scalars = given_inputs(graph, self.config)
        return vectors.to(self.species.weight.dtype), scalars.to(self.species.weight.dtype)

    def edge_vectors(self, graph: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Edges src → dst (E,), sorted by receiver, those that are given or found, and pos[dst] - pos[src] (E, 3)."""
        src, dst, shift = graph.src, graph.dst, graph.shift
        if src is None or dst is None:
            src, dst, shift = self.find_edges(graph)
        edge_vec = graph.pos.index_select(0, dst) - graph.pos.index_select(0, src)
        if shift is not None and graph.cell is not None:
            cells = graph.cell.index_select(0, graph.batch.index_select(0, src))
            edge_vec = edge_vec + torch.einsum("ei,eij->ej", shift, cells)
        return src, dst, edge_vec.to(self.species.weight.dtype)

    def find_edges(self, graph: GraphBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The edges that the configuration wants, see `graph.find_edges`."""
        return find_edges(graph, self.config.cutoff, self.config.max_neighbors)
