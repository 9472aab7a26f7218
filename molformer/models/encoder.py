"""SE3Transformer: from atoms and positions to equivariant features of every atom.

x ← x + Attention(Norm(x)), x ← x + FeedForward(Norm(x)), as in a pre-norm Transformer, with the equivariant
attention of Fuchs et al. 2020 (arXiv 2006.10503).
Letters: N nodes, M = (lmax+1)² components, C channels.
"""

from torch import Tensor, nn

from molformer.errors import ConfigError
from molformer.graph.batch import GraphBatch
from molformer.kernels import Dispatcher
from molformer.models.base import Encoder
from molformer.models.config import SE3TransformerConfig
from molformer.nn.attention import SE3Attention
from molformer.nn.edges import EdgeEmbedding, Edges
from molformer.nn.feed_forward import GatedFeedForward
from molformer.nn.norm import EquivariantRMSNorm
from molformer.nn.so2 import EdgeConvolution, SeparableConvolution
from molformer.nn.stochastic_depth import StochasticDepth


class SE3TransformerBlock(nn.Module):
    """Attention and feed-forward on normalised features, each added to the residual stream; in training a graph does
    without one of them with probability `drop`, see `StochasticDepth`.
    """

    def __init__(self, config: SE3TransformerConfig, drop: float = 0.0) -> None:
        super().__init__()
        lmax, channels = config.lmax, config.channels
        self.norm_1 = EquivariantRMSNorm(lmax, channels)
        self.attention = SE3Attention(
            lmax, channels, config.num_heads, _convolution(config), config.qk_norm, Dispatcher()
        )
        self.norm_2 = EquivariantRMSNorm(lmax, channels)
        self.feed_forward = GatedFeedForward(lmax, channels, config.feed_forward * channels)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor, edges: Edges, graph: GraphBatch) -> Tensor:
        """Features (N, M, C) → (N, M, C)."""
        x = x + self.drop(self.attention(self.norm_1(x), edges), graph)
        return x + self.drop(self.feed_forward(self.norm_2(x)), graph)


class SE3Transformer(Encoder):
    """The encoder: equivariant features of every node.

    Args:
        config: sizes; a preset by `molformer.models.config.preset`.

    Raises:
        ConfigError: the architecture is that of `PaperTransformer`.

    Example:
        >>> from molformer.data.structure import Structure
        >>> encoder = SE3Transformer(SE3TransformerConfig(lmax=2, channels=16, num_layers=1))
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> encoder(GraphBatch.from_structures([water])).shape
        torch.Size([3, 9, 16])
    """

    def __init__(self, config: SE3TransformerConfig) -> None:
        if config.architecture != "pre-norm":
            raise ConfigError(f"a network of architecture '{config.architecture}' is made by `PaperTransformer`")
        super().__init__(config)
        self.out_lmax, self.out_channels = config.lmax, config.channels
        given = config.all_vectors, config.input_scalars
        self.edges = EdgeEmbedding(config.lmax, config.cutoff, config.basis_size, config.edge_features, *given)
        rates = [config.stochastic_depth * layer / config.num_layers for layer in range(1, config.num_layers + 1)]
        self.blocks = nn.ModuleList(SE3TransformerBlock(config, rate) for rate in rates)
        self.norm = EquivariantRMSNorm(config.lmax, config.channels)

    def forward(self, graph: GraphBatch, x: Tensor | None = None) -> Tensor:
        """Node features (N, M, C) of a batch of graphs; see `Encoder.forward`."""
        if self.chemistry is not None:
            graph = self.chemistry.drop_graphs(graph)
        edges = self.embed_edges(graph)
        features = self.embed_nodes(graph, x)
        for block in self.blocks:
            features = block(features, edges, graph)
        return self.norm(features)

    def embed_edges(self, graph: GraphBatch) -> Edges:
        """Frames, radial features and envelopes of all edges."""
        graph = graph.sorted_by_dst()
        src, dst, edge_vec = self.edge_vectors(graph)
        bonds = None if self.chemistry is None else self.chemistry.embed_edges(graph, src, dst)
        return self.edges(graph.numbers, src, dst, edge_vec, self.given(graph), bonds)


def _convolution(config: SE3TransformerConfig) -> EdgeConvolution:
    sizes = (config.lmax, config.attended, config.attended, config.edge_features, config.group)
    if config.convolution == "full":
        from molformer.nn.full_kernel import FullConvolution

        return FullConvolution(*sizes, outputs=2, radial=config.radial)
    return SeparableConvolution(*sizes, outputs=2)
