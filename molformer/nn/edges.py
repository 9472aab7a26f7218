"""What all layers share about the edges of a batch, computed once a forward.

Directions become frames, lengths and the species at both ends become the edge features from which every layer makes
its radial functions. Letters: N nodes, E edges, M = (lmax+1)² components, C channels, F edge features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from torch import Tensor, nn

from molformer.elements import MAX_NUMBER
from molformer.nn.chunks import Chunk, whole_receivers
from molformer.nn.inputs import EdgeInputs
from molformer.nn.precision import full_precision
from molformer.nn.radial import BesselBasis, PolynomialEnvelope
from molformer.nn.receivers import Run, by_runs, degrees, outer, runs_of, to_edges, to_receivers
from molformer.so3 import edge_frames, frame_blocks, turning

ZERO_LENGTH = 1e-6
"""Å. A shorter edge has no direction; it carries no message."""

CHUNK_NUMBERS_ELSEWHERE = 1 << 27
"""Numbers that the largest tensor of a chunk may have on a GPU."""

MOST_CHUNK_NUMBERS = 1 << 23
"""The same on a processor, however large its caches are: a chunk makes a dozen such tensors."""

WHOLE_NUMBERS = {"cpu": 1 << 22}
"""Up to so many numbers in the largest tensor of all edges, these are one chunk where gradients are wanted: autograd
then keeps all, and nothing is computed again."""

L2_CACHE = 1 << 20
"""Bytes for each core where the processor does not say."""

KEPT_BYTES = 1 << 28
"""Memory that the layers of one forward may use to keep what is a little quicker read than computed again."""

KEPT_BYTES_TWICE = 1 << 30
"""The same where positions have gradients: to train forces is to compute again three times what is not kept."""


def chunk_numbers(device: str) -> int:
    """Numbers that the largest tensor of a chunk may have.

    On a processor this is about what stays in the caches of its cores: twice their size was fastest on machines with
    0.5 and 2 MB for each core.
    """
    if device != "cpu":
        return CHUNK_NUMBERS_ELSEWHERE
    return min(torch.get_num_threads() * _l2_cache() * 2 // 4, MOST_CHUNK_NUMBERS)


@cache
def _l2_cache() -> int:
    if not hasattr(torch.cpu, "get_capabilities"):  # an older version of torch
        return L2_CACHE
    return torch.cpu.get_capabilities().get("l2_cache_size") or L2_CACHE


class Memory:
    """So many bytes, for whoever comes first."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, wanted: int) -> bool:
        """Take some of it, if there is as much."""
        enough = wanted <= self.left
        self.left -= wanted if enough else 0
        return enough


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges src → dst with their frames.

    Args:
        src: sending nodes (E,).
        dst: receiving nodes (E,).
        num_nodes: N.
        frames: Wigner matrices into the edge frames, rows sorted by |m|: (E, M, M), or for a high lmax the blocks
            (E, S) of the degrees; see `so3.turning`.
        features: functions of length and species (E, F).
        envelope: weight (E,) of each edge, 1 at short range and 0 at the cutoff.
        runs: of receivers with equally many edges, if they are long; see `nn.receivers`.
        memory: what the layers may use to keep something for the backward.
    """

    src: Tensor
    dst: Tensor
    num_nodes: int
    frames: Tensor
    features: Tensor
    envelope: Tensor
    runs: Sequence[Run] | None = None
    _chunks: dict[int, list[Chunk]] = field(default_factory=dict, repr=False)
    memory: "Memory" = field(default_factory=lambda: Memory(KEPT_BYTES), repr=False)

    @cached_property
    def starts(self) -> Tensor:
        """First edge of each receiver, and the number of edges at the end (N+1,)."""
        return torch.searchsorted(self.dst, torch.arange(self.num_nodes + 1, device=self.dst.device))

    @cached_property
    def log_envelope(self) -> Tensor:
        """Logarithm of the envelope (E, 1)."""
        return self.envelope.log()[:, None]

    def turn_in(self, x: Tensor) -> Tensor:
        """Features (E, M, C) into the frames of their edges."""
        return turning.turn_in(self.frames, x)

    def turn_back(self, x: Tensor) -> Tensor:
        """Features (E, M, C) from the frames of their edges into the common frame."""
        return turning.turn_back(self.frames, x)

    def sum_at_dst(self, x: Tensor) -> Tensor:
        """Sum of the messages (E, …) that each node receives: (N, …)."""
        return x.new_zeros(self.num_nodes, *x.shape[1:]).index_add_(0, self.dst, x)

    def turn_in_at_dst(self, x: Tensor) -> Tensor:
        """Features of the receivers (N, M, C) in the frames of their edges (E, M, C)."""
        runs = self._usable_runs()
        if runs is None:
            return self.turn_in(x.index_select(0, self.dst))
        return to_edges(self.frames.to(x.dtype), x, runs)

    def sum_turned_back(self, y: Tensor) -> Tensor:
        """Sum over the edges into each node of features in their frames (E, M, C), turned back: (N, M, C)."""
        runs = self._usable_runs()
        if runs is None:
            return self.sum_at_dst(self.turn_back(y))
        return to_receivers(self.frames.to(y.dtype), y, runs)

    def frames_gradient(
        self, pairs: Sequence[tuple[Tensor, Tensor]], pairs_at_dst: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Gradient of Σ ⟨y, x turned in⟩ with respect to the frames, in their shape.

        Args:
            pairs: y in the frames and x in the common frame (E, M, C).
            pairs_at_dst: y in the frames (E, M, C) and x of the receivers (N, M, C).
        """
        runs = self._usable_runs()
        if runs is None:
            gathered = [(y, x.index_select(0, self.dst)) for y, x in pairs_at_dst]
            return turning.frames_gradient(self.frames, [*pairs, *gathered])
        gradient = turning.frames_gradient(self.frames, pairs)
        for y, x in pairs_at_dst:
            gradient += outer(y, x, runs)
        return gradient

    def _usable_runs(self) -> Sequence[Run] | None:
        """The runs, where frames are matrices and neither a compiler nor autocast wants operations of its own."""
        elsewhere = torch.compiler.is_compiling() or torch.is_autocast_enabled(self.dst.device.type)
        return None if elsewhere or self.frames.ndim != 3 else self.runs

    def chunks(self, numbers_per_edge: int, least: int) -> list[Chunk]:
        """Chunks of edges, which must be sorted by receiver, that bound the size of every tensor.

        Args:
            numbers_per_edge: size of the largest tensor that is made of an edge.
            least: edges that are worked on together at least.
        """
        device = self.dst.device.type
        most = max(least, chunk_numbers(device) // numbers_per_edge)
        whole = WHOLE_NUMBERS.get(device, 0) if torch.is_grad_enabled() else 0
        if len(self.dst) <= most or len(self.dst) * numbers_per_edge <= whole:
            return [Chunk(0, len(self.dst), 0, self.num_nodes)]
        if most not in self._chunks:
            self._chunks[most] = whole_receivers(degrees(self.dst, self.num_nodes), most)
        return self._chunks[most]


class EdgeEmbedding(nn.Module):
    """From edge vectors and species to `Edges`.

    Args:
        lmax: highest degree of the features that will be turned.
        cutoff: Å.
        basis_size: number of Bessel functions.
        features: F.
        vectors: input vectors of a node, see `EdgeInputs`.
        numbers: input numbers of a node.

    Example:
        >>> embed = EdgeEmbedding(lmax=2, cutoff=5.0, basis_size=8, features=16)
        >>> numbers, ends = torch.tensor([6, 8]), torch.tensor([0, 1])
        >>> edges = embed(numbers, ends, ends.flip(0), torch.tensor([[1.2, 0.0, 0.0], [-1.2, 0.0, 0.0]]))
        >>> edges.frames.shape, edges.features.shape
        (torch.Size([2, 9, 9]), torch.Size([2, 16]))
    """

    def __init__(
        self, lmax: int, cutoff: float, basis_size: int, features: int, vectors: int = 0, numbers: int = 0
    ) -> None:
        super().__init__()
        self.lmax = lmax
        self.basis = BesselBasis(cutoff, basis_size)
        self.envelope = PolynomialEnvelope(cutoff)
        self.from_basis = nn.Linear(basis_size, features)
        self.from_src = nn.Embedding(MAX_NUMBER + 1, features)
        self.from_dst = nn.Embedding(MAX_NUMBER + 1, features)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(features, features), nn.SiLU())
        self.inputs = EdgeInputs(vectors, numbers, features) if vectors or numbers else None

    def forward(
        self,
        numbers: Tensor,
        src: Tensor,
        dst: Tensor,
        edge_vec: Tensor,
        inputs: tuple[Tensor, Tensor] | None = None,
    ) -> Edges:
        """Embed edges; they come out sorted by receiver.

        Args:
            numbers: species (N,).
            src: sending nodes (E,).
            dst: receiving nodes (E,).
            edge_vec: pos[dst] - pos[src] (E, 3), Å.
            inputs: vectors (N, V, 3) and numbers (N, S) of the nodes, if there are any.
        """
        if not _is_recorded(dst) and bool((dst[1:] < dst[:-1]).any()):
            order = torch.argsort(dst, stable=True)
            src, dst, edge_vec = src[order], dst[order], edge_vec[order]
        length, direction, zero = _polar(edge_vec)
        with full_precision(edge_vec.device.type):
            frames = _frames(direction, self.lmax)
            basis = self.basis(length)
        ends = self.from_src(numbers).index_select(0, src) + self.from_dst(numbers).index_select(0, dst)
        if self.inputs is not None:
            assert inputs is not None
            ends = ends + self.inputs(*inputs, src, dst, direction)
        return Edges(
            src=src,
            dst=dst,
            num_nodes=len(numbers),
            frames=frames,
            features=self.mix(self.from_basis(basis) + ends),
            envelope=self.envelope(length).masked_fill(zero, 0.0),
            runs=runs_of(degrees(dst, len(numbers))) if by_runs(dst, len(numbers)) else None,
            memory=Memory(KEPT_BYTES_TWICE if frames.requires_grad else KEPT_BYTES),
        )


class LengthEmbedding(nn.Module):
    """Edge vectors to `Edges` whose features are the length itself, after numbers that are given for each edge.

    Args:
        lmax: highest degree of the features that will be turned.
        cutoff: Å.
    """

    def __init__(self, lmax: int, cutoff: float) -> None:
        super().__init__()
        self.lmax = lmax
        self.envelope = PolynomialEnvelope(cutoff)

    def forward(self, src: Tensor, dst: Tensor, edge_vec: Tensor, num_nodes: int, given: Tensor | None = None) -> Edges:
        """Embed edges; they come out sorted by receiver.

        Args:
            src: sending nodes (E,).
            dst: receiving nodes (E,).
            edge_vec: pos[dst] - pos[src] (E, 3), Å.
            num_nodes: N.
            given: numbers of each edge (E, F-1).
        """
        order = torch.argsort(dst, stable=True)
        length, direction, zero = _polar(edge_vec[order])
        with full_precision(edge_vec.device.type):
            frames = _frames(direction, self.lmax)
        features = length[:, None]
        if given is not None:
            features = torch.cat([given[order].to(features.dtype), features], dim=1)
        envelope = self.envelope(length).masked_fill(zero, 0.0)
        return Edges(src[order], dst[order], num_nodes, frames, features, envelope)


def _is_recorded(x: Tensor) -> bool:
    """Whether a CUDA graph is being made, which may look at no value; what it computes has been tried before."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _polar(edge_vec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths (E,) and directions (E, 3), those of a unit vector where an edge has no length, and where it has none."""
    square = edge_vec.square().sum(-1)
    zero = square < ZERO_LENGTH**2
    # The replacement is chosen before the root, so that no gradient passes through a root of zero.
    axis = edge_vec.new_zeros(3)
    axis[1].fill_(1.0)
    length = torch.where(zero, 1.0, square).sqrt()
    return length, torch.where(zero[:, None], axis, edge_vec / length[:, None]), zero


def _frames(direction: Tensor, lmax: int) -> Tensor:
    return edge_frames(direction, lmax) if lmax <= turning.DENSE_LMAX else frame_blocks(direction, lmax)
