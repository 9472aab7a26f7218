"""PaperTransformer: the published SE(3)-Transformer.

Fuchs et al. 2020 (arXiv 2006.10503): blocks of attention, self-interaction and norm nonlinearity, then a convolution
without attention, y_i = Σ_j (W(x_ij) f_j + S f_i), to the degrees that the targets need. There is no residual stream
and no feed-forward. `SE3Transformer` is the faster and more accurate network; this one is for comparison, and for
weights that were trained elsewhere.
Letters: N nodes, E edges, F edge features, M = (lmax+1)² components, C channels.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from molformer.errors import InputError
from molformer.graph import GraphBatch
from molformer.models.base import Encoder
from molformer.models.config import SE3TransformerConfig
from molformer.models.published.block import (
    AttentiveSelfInteraction,
    LinearSelfInteraction,
    NormNonlinearity,
    PaperAttention,
    PaperBlock,
    by_row,
)
from molformer.models.published.pairwise import PairwiseConvolution, frame_rows
from molformer.nn.edges import Edges, polar
from molformer.nn.linear import DegreeLinear
from molformer.nn.precision import full_precision
from molformer.nn.radial import PolynomialEnvelope
from molformer.so3 import edge_wigner, num_components


class LengthEmbedding(nn.Module):
    """Edge vectors to `Edges` up to degree lmax; features are numbers given for an edge, then its length; cutoff, Å."""

    def __init__(self, lmax: int, cutoff: float) -> None:
        super().__init__()
        self.lmax = lmax
        self.envelope = PolynomialEnvelope(cutoff)

    def forward(self, src: Tensor, dst: Tensor, edge_vec: Tensor, num_nodes: int, given: Tensor | None = None) -> Edges:
        """Embed edges (E,), sorted by dst, of vectors pos[dst] - pos[src] (E, 3), Å, and given scalars (E, F-1)."""
        length, direction, zero = polar(edge_vec)
        with full_precision(edge_vec.device.type):
            wigner = edge_wigner(direction, self.lmax)
        features = length[:, None]
        if given is not None:
            features = torch.cat([given.to(features.dtype), features], dim=1)
        return Edges(src, dst, num_nodes, wigner, features, self.envelope(length).masked_fill(zero, 0.0))


class PaperTransformer(Encoder):
    """The published network; features come out with (lmax+1)·C channels.

    Args:
        config: sizes, of architecture `paper`.
        out_lmax: highest degree that is read out; 0 for scalars.

    Example:
        >>> from molformer.data.structure import Structure
        >>> from molformer.models.config import preset
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> PaperTransformer(preset("paper"))(GraphBatch.from_structures([water])).shape
        torch.Size([3, 1, 128])
    """

    def __init__(self, config: SE3TransformerConfig, out_lmax: int = 0) -> None:
        super().__init__(config)
        lmax, channels = config.lmax, config.channels
        self.out_lmax, self.out_channels = out_lmax, (lmax + 1) * channels
        self.edges = LengthEmbedding(lmax, config.cutoff)
        # Nodes come in with numbers and, perhaps, vectors: the first block has no kernels for higher degrees.
        degrees = [min(lmax, 1 if config.all_vectors else 0), *[lmax] * config.num_layers]
        self.blocks = nn.ModuleList(_block(config, in_lmax) for in_lmax, _ in pairwise(degrees))
        self.final = _convolution(config, lmax, [self.out_channels] * (out_lmax + 1))
        self.final_self = DegreeLinear(out_lmax, channels, self.out_channels)

    def forward(self, graph: GraphBatch, x: Tensor | None = None) -> Tensor:
        """Node features of a batch of graphs; see `Encoder.forward`. Of `x` the first block sees degrees 0 and 1 only.

        Raises:
            InputError: the model takes numbers of edges, and the graph has none.
        """
        edges = self.embed_edges(graph)
        features = self.embed_nodes(graph, x)
        for block in self.blocks:
            features = block(features, edges)
        return self.read_out(features, edges)

    def read_out(self, x: Tensor, edges: Edges) -> Tensor:
        """The last convolution: features (N, M, C) to (N, (out_lmax+1)², (lmax+1)·C)."""
        rows = frame_rows(self.config.lmax)
        sent = self.final(by_row(edges.rotate_in(x.index_select(0, edges.src)), rows), edges.features)
        kept = [place for place, row in enumerate(rows) if row in sent]
        framed = torch.stack([sent[rows[place]] for place in kept], dim=1)
        out = num_components(self.out_lmax)
        back = edges.wigner.to(x.dtype)[:, kept, :out].transpose(1, 2)  # of the degrees that come out
        own = self.final_self(x[:, :out]).index_select(0, edges.dst)
        return edges.sum_at_dst((torch.bmm(back, framed) + own) * edges.envelope[:, None, None].to(x.dtype))

    def embed_edges(self, graph: GraphBatch) -> Edges:
        """Frames, envelopes, and as features the numbers of the edges that are given and their lengths."""
        if self.config.input_edge_scalars and (graph.edge_features is None or graph.src is None):
            raise InputError(
                f"the model takes {self.config.input_edge_scalars} scalars of each edge, such as its kind of bond: "
                "give `src`, `dst` and `edge_features` of the graph"
            )
        graph = graph.sorted_by_dst()
        return self.edges(*self.edge_vectors(graph), len(graph.pos), graph.edge_features)


def _convolution(config: SE3TransformerConfig, in_lmax: int, out_channels: list[int]) -> PairwiseConvolution:
    return PairwiseConvolution(
        in_lmax,
        config.channels,
        out_channels,
        config.input_edge_scalars + 1,
        config.group,
        config.radial,
        config.norms in ("both", "radial"),
    )


def _block(config: SE3TransformerConfig, in_lmax: int) -> PaperBlock:
    lmax, channels, share = config.lmax, config.channels, config.channels // config.channels_div
    widths = [share * (2 if degree <= in_lmax else 1) for degree in range(lmax + 1)]
    convolution = _convolution(config, in_lmax, widths)
    attention = PaperAttention(convolution, in_lmax, lmax, channels, share, config.num_heads)
    interaction = LinearSelfInteraction if config.self_interaction == "linear" else AttentiveSelfInteraction
    norm = NormNonlinearity(lmax, channels) if config.norms in ("both", "features") else None
    return PaperBlock(attention, interaction(in_lmax, lmax, channels, share), norm)
