"""Edge data of a batch that all layers share, computed once per forward pass.

The direction of an edge becomes the Wigner matrix of its frame; its length and the species at both ends become the
features from which every layer makes its radial functions.
Letters: N nodes, E edges, M = (lmax+1)² components, C channels, F edge features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from molformer.elements import MAX_NUMBER
from molformer.nn.precision import full_precision
from molformer.nn.radial import BesselBasis, PolynomialEnvelope
from molformer.so3.frames import edge_wigner

ZERO_LENGTH = 1e-6  # Å; a shorter edge has no direction and carries no message
FAINTEST = 1e-30  # envelope below which an edge has no weight, however large its logit


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges src → dst with their frames.

    Args:
        src: sending nodes (E,).
        dst: receiving nodes (E,), ascending.
        num_nodes: N.
        wigner: rotations into the edge frames (E, M, M), see `so3.edge_wigner`.
        features: functions of length and species (E, F).
        envelope: weight (E,) of each edge, 1 at short range and 0 at the cutoff.
    """

    src: Tensor
    dst: Tensor
    num_nodes: int
    wigner: Tensor
    features: Tensor
    envelope: Tensor

    @cached_property
    def starts(self) -> Tensor:
        """Index of the first edge into each node, and E (N+1,)."""
        return torch.searchsorted(self.dst, torch.arange(self.num_nodes + 1, device=self.dst.device))

    @cached_property
    def log_envelope(self) -> Tensor:
        """Logarithm of the envelope (E, 1), without gradient; -∞ for an edge without weight."""
        envelope = self.envelope.detach()
        return torch.where(envelope > FAINTEST, envelope.clamp(min=FAINTEST).log(), -torch.inf)[:, None]

    def rotate_in(self, x: Tensor) -> Tensor:
        """Features (E, M, C) from the common frame into the frames of their edges."""
        return torch.bmm(self.wigner.to(x.dtype), x)

    def rotate_out(self, x: Tensor) -> Tensor:
        """Features (E, M, C) from the frames of their edges into the common frame."""
        return torch.bmm(self.wigner.to(x.dtype).transpose(1, 2), x)

    def sum_at_dst(self, x: Tensor) -> Tensor:
        """Sum of the messages (E, …) into each node: (N, …)."""
        return x.new_zeros(self.num_nodes, *x.shape[1:]).index_add(0, self.dst, x)


class EdgeEmbedding(nn.Module):
    """From edge vectors and species to `Edges`.

    Args:
        lmax: highest degree of the features that will be rotated.
        cutoff: Å.
        basis_size: number of Bessel functions.
        features: F.
        vectors: input vectors of a node, see `EdgeInputs`.
        scalars: input scalars of a node.

    Example:
        >>> embed = EdgeEmbedding(lmax=2, cutoff=5.0, basis_size=8, features=16)
        >>> species, src, dst = torch.tensor([6, 8]), torch.tensor([1, 0]), torch.tensor([0, 1])
        >>> edges = embed(species, src, dst, torch.tensor([[-1.2, 0.0, 0.0], [1.2, 0.0, 0.0]]))
        >>> edges.wigner.shape, edges.features.shape
        (torch.Size([2, 9, 9]), torch.Size([2, 16]))
    """

    def __init__(
        self, lmax: int, cutoff: float, basis_size: int, features: int, vectors: int = 0, scalars: int = 0
    ) -> None:
        super().__init__()
        self.lmax = lmax
        self.basis = BesselBasis(cutoff, basis_size)
        self.envelope = PolynomialEnvelope(cutoff)
        self.from_basis = nn.Linear(basis_size, features)
        self.from_src = nn.Embedding(MAX_NUMBER + 1, features)
        self.from_dst = nn.Embedding(MAX_NUMBER + 1, features)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(features, features), nn.SiLU())
        self.inputs = None
        if vectors or scalars:
            from molformer.nn.inputs import EdgeInputs

            self.inputs = EdgeInputs(vectors, scalars, features)

    def forward(
        self,
        species: Tensor,
        src: Tensor,
        dst: Tensor,
        edge_vec: Tensor,
        inputs: Sequence[Tensor] = (),
        bonds: Tensor | None = None,
    ) -> Edges:
        """Embed edges src → dst (E,), sorted by dst, with vectors pos[dst] - pos[src] (E, 3), Å, of nodes of species
        (N,).

        Inputs are vectors (N, V, 3) and scalars (N, S) of nodes; bonds, features (E, F) of bonds or paths between the
        ends.
        """
        length, direction, zero = polar(edge_vec)
        with full_precision(edge_vec.device.type):
            wigner, basis = edge_wigner(direction, self.lmax), self.basis(length)
        ends = self.from_src(species).index_select(0, src) + self.from_dst(species).index_select(0, dst)
        if self.inputs is not None:
            ends = ends + self.inputs(*inputs, src, dst, direction)
        if bonds is not None:
            ends = ends + bonds
        features = self.mix(self.from_basis(basis) + ends)
        envelope = self.envelope(length).masked_fill(zero, 0.0)
        return Edges(src, dst, len(species), wigner, features, envelope)


def polar(edge_vec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths (E,), directions (E, 3) and the mask of zero-length edges (E,), which get length 1 and direction +y."""
    square = edge_vec.square().sum(-1)
    zero = square < ZERO_LENGTH**2
    # The replacement is chosen before the root, so that no gradient passes through a root of zero.
    axis = edge_vec.new_zeros(3)
    axis[1].fill_(1.0)
    length = torch.where(zero, 1.0, square).sqrt()
    return length, torch.where(zero[:, None], axis, edge_vec / length[:, None]), zero
