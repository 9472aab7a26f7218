"""The block of the published SE(3)-Transformer, and its norm nonlinearity.

Fuchs et al. 2020 (arXiv 2006.10503), equations 10 to 12. With z_i = Σ_j α_ij v_ij, α_ij = softmax_j(q_i · k_ij), one
logit a head over all degrees, keys and values having a share of the channels, a block is
    x_i^l ← S^l [z_i^l ; x_i^l],   x ← x/|x| · ReLU(LayerNorm(|x|)),
where the self-interaction S^l is a matrix or, attentive, depends on the products of the channels with each other.

Letters: N nodes, E edges, M = (lmax+1)² components, C channels, D channels of keys and values, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.models.published.pairwise import PairwiseConvolution, Rows, frame_rows
from molformer.nn.edges import Edges
from molformer.nn.linear import DegreeLinear
from molformer.so3 import degree_of_component, num_components
from molformer.so3.components import degree_slice


class PaperAttention(nn.Module):
    """Σ_j α_ij v_ij, and before it the queries, keys and values; D is a multiple of the heads.

    An edge that nears the cutoff fades: α_ij = u² exp(s) / Σ u exp(s) with its envelope u. Where all u are 1 this is
    the published softmax. The kernel has D + D channels, of keys and values, for degrees of the input, D for higher
    ones.
    """

    def __init__(
        self, convolution: PairwiseConvolution, in_lmax: int, lmax: int, channels: int, share: int, num_heads: int
    ) -> None:
        super().__init__()
        self.in_lmax, self.lmax, self.share, self.num_heads = in_lmax, lmax, share, num_heads
        self.query = DegreeLinear(in_lmax, channels, share)
        self.convolution = convolution

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features (N, M, C), zero above `in_lmax`, to z (N, M, D)."""
        rows = frame_rows(self.lmax)
        sent = self.convolution(by_row(edges.rotate_in(x.index_select(0, edges.src)), rows), edges.features)
        values = torch.stack([sent[row][:, : self.share] for row in rows], dim=1)  # (E, M, D)
        with_key = [place for place, (degree, _) in enumerate(rows) if degree <= self.in_lmax]
        keys = torch.stack([sent[rows[place]][:, self.share :] for place in with_key], dim=1)
        queries = self.query(x[:, : num_components(self.in_lmax)])
        queries = functional.pad(queries, (0, 0, 0, num_components(self.lmax) - queries.shape[1]))
        queries = edges.rotate_in(queries.index_select(0, edges.dst))[:, with_key]
        logits = (queries * keys).sum(1).unflatten(-1, (self.num_heads, -1)).sum(-1)  # (E, H)
        weights = self.softmax(logits / (self.share * num_components(self.in_lmax)) ** 0.5, edges)
        weights = weights.repeat_interleave(self.share // self.num_heads, dim=-1)[:, None]
        return edges.sum_at_dst(edges.rotate_out(weights * values))

    @staticmethod
    def softmax(logits: Tensor, edges: Edges) -> Tensor:
        """Weights (E, H) from logits (E, H)."""
        nodes = edges.dst[:, None].expand_as(logits)
        largest = logits.new_full((edges.num_nodes, logits.shape[1]), -torch.inf)
        largest = largest.scatter_reduce(0, nodes, logits.detach(), "amax")
        envelope = edges.envelope[:, None].to(logits.dtype)
        exponential = envelope * torch.exp(logits - largest.index_select(0, edges.dst))
        total = edges.sum_at_dst(exponential).index_select(0, edges.dst)
        return envelope * exponential / (total + torch.finfo(logits.dtype).tiny)


class LinearSelfInteraction(nn.Module):
    """S^l as a matrix for each degree: what is received (N, M, D) and the node's own features (N, M, C) up to
    `in_lmax`.
    """

    def __init__(self, in_lmax: int, lmax: int, channels: int, share: int) -> None:
        super().__init__()
        self.in_lmax = in_lmax
        self.received = DegreeLinear(lmax, share, channels)
        self.own = DegreeLinear(in_lmax, channels, channels)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Features (N, M, C)."""
        own = self.own(x[:, : num_components(self.in_lmax)])
        return self.received(z) + functional.pad(own, (0, 0, 0, z.shape[1] - own.shape[1]))


class AttentiveSelfInteraction(nn.Module):
    """S^l that depends on the node: y_c = Σ_c' w_cc' f_c', w = softmax_c' of a network of the products f_c · f_c'.

    f^l are the D channels that are received and, of degrees up to `in_lmax`, the C of the node itself, K in all. The
    networks have K⁴-like sizes: this is for few channels.
    """

    def __init__(self, in_lmax: int, lmax: int, channels: int, share: int) -> None:
        super().__init__()
        self.channels = channels
        self.widths = [share + (channels if degree <= in_lmax else 0) for degree in range(lmax + 1)]
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width**2),
                nn.LeakyReLU(),
                nn.Linear(width**2, width * channels, bias=False),
                nn.LayerNorm(width * channels),
                nn.LeakyReLU(),
                nn.Linear(width * channels, width * channels),
            )
            for width in self.widths
        )

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Features (N, M, C) from (N, M, D) and (N, M, C)."""
        mixed = []
        for degree, (net, width) in enumerate(zip(self.nets, self.widths, strict=True)):
            part = degree_slice(degree)
            f = torch.cat([z[:, part], x[:, part]], dim=2)[:, :, :width]  # (N, 2l+1, K)
            products = (f.transpose(1, 2) @ f).flatten(1)
            weights = net(products).unflatten(1, (width, self.channels)).softmax(1)
            mixed.append(f @ weights)
        return torch.cat(mixed, dim=1)


class NormNonlinearity(nn.Module):
    """x/|x| · ReLU(LayerNorm(|x|)) for each degree up to lmax, |x| the length of a channel over its orders.

    Example:
        >>> NormNonlinearity(2, 8)(torch.zeros(5, 9, 8)).abs().max().item()
        0.0
    """

    degrees: Tensor

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(lmax + 1, channels))
        self.bias = nn.Parameter(torch.zeros(lmax + 1, channels))
        self.register_buffer("degrees", torch.tensor(degree_of_component(lmax)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, M, C) of new lengths."""
        square = x.new_zeros(len(x), *self.gain.shape).index_add_(1, self.degrees, x.square())
        length = (square + 2.0**-48).sqrt()  # (N, lmax+1, C); never the root of zero
        new = functional.layer_norm(length, length.shape[-1:]) * self.gain + self.bias
        return x * (new.relu() / length).index_select(1, self.degrees)


class PaperBlock(nn.Module):
    """Attention, self-interaction and, if wanted, the norm nonlinearity."""

    def __init__(self, attention: PaperAttention, interaction: nn.Module, norm: NormNonlinearity | None) -> None:
        super().__init__()
        self.attention = attention
        self.interaction = interaction
        self.norm = norm

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Features (N, M, C) → (N, M, C)."""
        x = self.interaction(self.attention(x, edges), x)
        return x if self.norm is None else self.norm(x)


def by_row(x: Tensor, rows: list[tuple[int, int]]) -> Rows:
    """Features (E, M, C) in the frames of edges by degree and order."""
    return dict(zip(rows, x.unbind(1), strict=True))
