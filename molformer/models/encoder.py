"""SE3Transformer: from atoms and positions to equivariant features of every atom.

x ← x + Attention(Norm(x)), x ← x + FeedForward(Norm(x)), as in a pre-norm Transformer, with the equivariant
attention of Fuchs et al. 2020 (arXiv 2006.10503).
Letters: N nodes, M = (lmax+1)² components, C channels, V input vectors, S input numbers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.data.graph import GraphBatch
from molformer.data.neighbours import radius_edges
from molformer.elements import MAX_NUMBER
from molformer.errors import InputError
from molformer.models.config import SE3TransformerConfig
from molformer.nn.attention import SE3Attention
from molformer.nn.edges import EdgeEmbedding, Edges
from molformer.nn.feed_forward import GatedFeedForward
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.inputs import NodeInputs
from molformer.nn.norm import EquivariantRMSNorm
from molformer.nn.so2 import EdgeConvolution, SeparableConvolution
from molformer.nn.stochastic_depth import StochasticDepth
from molformer.so3 import num_components


class SE3TransformerBlock(nn.Module):
    """Attention and feed-forward, each on normalised features and added to the residual stream.

    Args:
        config: sizes of the encoder.
        drop: probability that a graph does without one of the two in a step of training, see `StochasticDepth`.
    """

    def __init__(self, config: SE3TransformerConfig, drop: float = 0.0) -> None:
        super().__init__()
        lmax, channels = config.lmax, config.channels
        self.norm_1 = EquivariantRMSNorm(lmax, channels)
        self.attention = SE3Attention(lmax, channels, config.num_heads, _convolution(config))
        self.norm_2 = EquivariantRMSNorm(lmax, channels)
        self.feed_forward = GatedFeedForward(lmax, channels, config.feed_forward * channels)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor, edges: Edges, graph: GraphBatch) -> Tensor:
        """Features (N, M, C) → (N, M, C)."""
        x = x + self.drop(self.attention(self.norm_1(x), edges), graph)
        return x + self.drop(self.feed_forward(self.norm_2(x)), graph)


class SE3Transformer(nn.Module):
    """The encoder: equivariant features of every node.

    Args:
        config: sizes; a preset by `molformer.models.config.preset`.

    Example:
        >>> from molformer.data.structure import Structure
        >>> encoder = SE3Transformer(SE3TransformerConfig(lmax=2, channels=16, num_layers=1))
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> encoder(GraphBatch.from_structures([water])).shape
        torch.Size([3, 9, 16])
    """

    def __init__(self, config: SE3TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.species = nn.Embedding(MAX_NUMBER + 1, config.channels)
        given = config.all_vectors, config.input_numbers
        self.inputs = NodeInputs(config.lmax, *given, config.channels) if any(given) else None
        self.edges = EdgeEmbedding(config.lmax, config.cutoff, config.basis_size, config.edge_features, *given)
        rates = [config.stochastic_depth * layer / config.num_layers for layer in range(1, config.num_layers + 1)]
        self.blocks = nn.ModuleList(SE3TransformerBlock(config, rate) for rate in rates)
        self.norm = EquivariantRMSNorm(config.lmax, config.channels)

    def forward(self, graph: GraphBatch, x: Tensor | None = None) -> Tensor:
        """Node features of a batch of graphs.

        Args:
            graph: nodes of B graphs, with edges or without.
            x: equivariant input features (N, M, C) to be added to those of the species.

        Returns:
            Features (N, M, C); component (l, m) at index l² + l + m.
        """
        edges = self.embed_edges(graph)
        features = self.embed_nodes(graph)
        if x is not None:
            features = features + x
        for block in self.blocks:
            features = block(features, edges, graph)
        return self.norm(features)

    def embed_nodes(self, graph: GraphBatch) -> Tensor:
        """Features (N, M, C) of the species, zero but for degree 0, and of further inputs if there are any."""
        scalars = self.species(graph.numbers)[:, None]
        x = functional.pad(scalars, (0, 0, 0, num_components(self.config.lmax) - 1))
        given = self.given(graph)
        return x if self.inputs is None or given is None else x + self.inputs(*given)

    def given(self, graph: GraphBatch) -> tuple[Tensor, Tensor] | None:
        """Vectors (N, V, 3) and numbers (N, S) that the nodes are told, None if there are none; NaN counts as 0.

        Raises:
            InputError: the structures have fewer features than the model takes.
        """
        config = self.config
        if self.inputs is None:
            return None
        given = split_inputs(graph, config.input_vectors, config.input_numbers)
        vectors, numbers = (part.to(self.species.weight.dtype).nan_to_num() for part in given)
        if config.up != "none":
            axis = vectors.new_tensor([float(name == config.up) for name in "xyz"])
            vectors = torch.cat([vectors, axis.expand(len(vectors), 1, 3)], dim=1)
        return vectors, numbers

    def embed_edges(self, graph: GraphBatch) -> Edges:
        """Frames, radial features and envelopes of all edges."""
        src, dst, shift = graph.src, graph.dst, graph.shift
        if src is None or dst is None:
            src, dst, shift = self.find_edges(graph)
        edge_vec = graph.pos.index_select(0, dst) - graph.pos.index_select(0, src)
        if shift is not None and graph.cell is not None:
            cells = graph.cell.index_select(0, graph.batch.index_select(0, src))
            edge_vec = edge_vec + torch.einsum("ei,eij->ej", shift, cells)
        return self.edges(graph.numbers, src, dst, edge_vec.to(self.species.weight.dtype), self.given(graph))

    def find_edges(self, graph: GraphBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The radius graph: src (E,), dst (E,) and, where a graph is periodic, the cells that are crossed (E, 3)."""
        if graph.cell is None or graph.pbc is None:
            return *radius_edges(graph.pos, graph.ptr, self.config.cutoff), None
        from molformer.data.periodic import periodic_edges

        return periodic_edges(graph.pos, graph.ptr, graph.cell, graph.pbc, self.config.cutoff)


def split_inputs(graph: GraphBatch, vectors: int, numbers: int) -> tuple[Tensor, Tensor]:
    """The columns of the features that are vectors (N, V, 3), and those after them that are numbers (N, S).

    Raises:
        InputError: there are fewer columns.
    """
    needed = 3 * vectors + numbers
    features = graph.pos.new_zeros(len(graph.pos), 0) if graph.features is None else graph.features
    if features.shape[1] < needed:
        raise InputError(
            f"the model takes {needed} features of each atom or point ({vectors} vectors, {numbers} numbers), and the "
            f"structures have {features.shape[1]}"
        )
    return features[:, : 3 * vectors].unflatten(1, (vectors, 3)), features[:, 3 * vectors : needed]


def _convolution(config: SE3TransformerConfig) -> EdgeConvolution:
    sizes = (config.lmax, config.channels, config.channels, config.edge_features, config.group)
    if config.convolution == "full":
        return FullConvolution(*sizes, outputs=2, radial=config.radial)
    return SeparableConvolution(*sizes, outputs=2)
