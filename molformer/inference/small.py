"""The features of one small molecule, in about two thirds of the time that its encoder takes.

With some ten atoms an operation of torch takes longer to begin than to run. So most of what `SE3Transformer` does is
done here with NumPy, which begins sooner, and with fewer operations; large products and what strides through memory
stay with torch. The weights are the encoder's own, and the results are the same to rounding.

Only the kernel is applied to a list of edges. All else is done on the grid of receivers and senders, where turning is
one product for all edges of an atom, the sum over its neighbours another, and the softmax an ordinary one. A pair
without an edge is there with some edge's numbers and the term -∞, so that its weight is 0. An atom and itself are a
pair with a frame of zeros and the term 0: that is the 1 in the denominator of `nn.attention.smooth_softmax`.

Letters: N atoms, E edges sorted by receiver and then by sender, M = (lmax+1)² components, C channels of the atoms, D
channels of keys and values, H heads, F edge features, K basis functions.
"""

from dataclasses import dataclass
from functools import partial
from math import pi, sqrt
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from molformer.data.graph import GraphBatch
from molformer.models.base import Encoder
from molformer.models.encoder import SE3Transformer, SE3TransformerBlock
from molformer.nn.attention import EPSILON
from molformer.nn.edges import ZERO_LENGTH
from molformer.nn.linear import DegreeLinear
from molformer.nn.norm import EquivariantRMSNorm
from molformer.nn.prepared import Prepared, weights_of
from molformer.nn.so2 import SeparableConvolution
from molformer.so3 import edge_frames_array, num_components
from molformer.so3.turning import DENSE_LMAX

MOST_ATOMS = 30
"""Atoms up to which it is faster."""

ONE_THREAD = 1 << 18
"""Multiplications of a product up to which NumPy's library takes one thread. Of threads, torch has the say."""

_PREPARED: WeakKeyDictionary[Encoder, Prepared] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights of a block, those of a norm multiplied into what comes after it.

    Args:
        project: of queries, self-interaction and what is sent (M, C, D + C + D).
        scale_weight: of the kernel's scales (F, M·D).
        scale_bias: (M·D,).
        matrices: of the kernel, one for each block of components: first those of the keys, then of the values.
        widths: numbers of a row in each of these blocks.
        heads: which numbers of a row belong to a head (M·D, H).
        scale: factor of the logits (H,).
        normalised: whether queries and keys are.
        output: (M, D, C).
        expand: (M, C, X), with its bias (M, 1, X).
        expand_bias: see `expand`.
        gate: of each degree (lmax+1, C, X), with its bias (lmax+1, 1, X).
        gate_bias: see `gate`.
        reduce: (M, X, C).
        epsilons: of the two norms.
    """

    project: np.ndarray
    scale_weight: Tensor
    scale_bias: Tensor
    matrices: list[Tensor]
    widths: list[int]
    heads: Tensor
    scale: np.ndarray
    normalised: bool
    output: np.ndarray
    expand: np.ndarray
    expand_bias: np.ndarray
    gate: np.ndarray
    gate_bias: np.ndarray
    reduce: np.ndarray
    epsilons: tuple[float, float]

    @classmethod
    def of(cls, block: SE3TransformerBlock) -> "Layer":
        """The weights of a block."""
        attention, kernel = block.attention, block.attention.convolution
        assert isinstance(kernel, SeparableConvolution)
        gain_1, gain_2 = _gain(block.norm_1), _gain(block.norm_2)
        degrees, channels = attention.query.degrees, attention.self_interaction.weight.shape[1]
        sender = attention.sender.weight if isinstance(attention.sender, DegreeLinear) else _identity(gain_1, channels)
        project = torch.cat([attention.query.weight, attention.self_interaction.weight, sender], dim=-1)
        scale_weight, scale_bias = (
            part.unflatten(0, (-1, kernel.in_channels)).index_select(0, kernel.pairs).flatten(0, 1)
            for part in (kernel.scale.weight, kernel.scale.bias)
        )
        by_order = kernel.matrices()  # of keys and values in turn
        matrices = [by_order[2 * m + output] for output in (0, 1) for m, _ in kernel.blocks]
        expand, expand_bias, gate, gate_bias, reduce = block.feed_forward.by_component()
        if attention.gain is None:
            scale = attention.heads.new_full((attention.num_heads,), attention.size**-0.5)
        else:  # 1/√n, and the n that `_attention` leaves out of two mean squares
            scale = attention.gain * attention.size**0.5
        return cls(
            project=_array(gain_1 * project.index_select(0, degrees)),
            scale_weight=scale_weight.detach().T.contiguous(),
            scale_bias=scale_bias.detach(),
            matrices=[matrix.detach() for matrix in matrices],
            widths=[count * kernel.in_channels for _, count in kernel.blocks],
            heads=attention.heads.repeat(len(degrees), 1),
            scale=_array(scale),
            normalised=attention.gain is not None,
            output=_array(*attention.output.by_component()),
            expand=_array(gain_2 * expand),
            expand_bias=_array(expand_bias),
            gate=_array(gain_2[:1] * gate),
            gate_bias=_array(gate_bias),
            reduce=_array(reduce),
            epsilons=(block.norm_1.eps, block.norm_2.eps),
        )


@dataclass(frozen=True, eq=False)
class Weights:
    """What is computed with.

    Args:
        species: (Z, C).
        from_src: (Z, F).
        from_dst: with the bias of `from_basis` (Z, F).
        order: numbers of the basis functions (K,).
        from_basis: (K, F).
        mix: (F, F).
        mix_bias: (F,).
        layers: of the blocks.
        share: of each number of a row in a mean square (M·C, 1).
        degrees: of each component (M,).
        gain: of the last norm (M·C,).
    """

    species: np.ndarray
    from_src: np.ndarray
    from_dst: np.ndarray
    order: np.ndarray
    from_basis: Tensor
    mix: Tensor
    mix_bias: Tensor
    layers: list[Layer]
    share: Tensor
    degrees: np.ndarray
    gain: np.ndarray

    @classmethod
    def of(cls, encoder: SE3Transformer) -> "Weights":
        """The weights of an encoder."""
        edges, mix = encoder.edges, encoder.edges.mix[1]
        assert isinstance(mix, nn.Linear)
        gain, share = encoder.norm.per_component()
        return cls(
            species=_array(encoder.species.weight),
            from_src=_array(edges.from_src.weight),
            from_dst=_array(edges.from_dst.weight + edges.from_basis.bias),
            order=_array(edges.basis.order.to(gain)),
            from_basis=edges.from_basis.weight.detach().T.contiguous(),
            mix=mix.weight.detach().T.contiguous(),
            mix_bias=mix.bias.detach(),
            layers=[Layer.of(cast(SE3TransformerBlock, block)) for block in encoder.blocks],
            share=share.detach(),
            degrees=_array(encoder.norm.degrees),
            gain=_array(gain),
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """Edges of a molecule in the grid of receivers by senders.

    Args:
        at_receivers: frames of the pairs of each receiver, senders in order: (N, N·M, M).
        at_senders: the same of each sender, receivers in order.
        mirrored: place of each edge in the grid of senders by receivers (E,).
        edges: the edge at each place, or another one where there is none (N²,).
        features: functions of length and species (E, F).
        terms: logarithm of the envelope (N, N, 1); -∞ where there is no edge, 0 of an atom with itself.
    """

    at_receivers: np.ndarray
    at_senders: np.ndarray
    mirrored: np.ndarray
    edges: np.ndarray
    features: Tensor
    terms: np.ndarray


def features(encoder: Encoder, graph: GraphBatch) -> Tensor | None:
    """Features (N, M, C) that an encoder gives, without gradients; None where it must do so itself.

    Its modules are not called, and so no hooks of theirs.

    Args:
        encoder: of any architecture.
        graph: with any number of molecules.
    """
    if not _takes(encoder, graph):
        return None
    assert isinstance(encoder, SE3Transformer)
    prepared = _PREPARED.setdefault(encoder, Prepared())
    weights = prepared(weights_of(encoder), partial(Weights.of, encoder))
    with np.errstate(over="ignore", divide="ignore"):  # exp(-x) of SiLU, log of the envelope at the cutoff
        grid = _grid(encoder, weights, graph.numbers.numpy(), graph.pos.numpy().astype(weights.gain.dtype, copy=False))
        if grid is None:
            return None
        x = np.zeros((len(graph.pos), len(weights.gain)), weights.gain.dtype)
        x[:, : weights.species.shape[1]] = weights.species[graph.numbers.numpy()]
        for layer in weights.layers:
            x = x + _attention(layer, grid, _normalised(x, weights, layer.epsilons[0]))
            x = x + _feed_forward(layer, weights.degrees, _normalised(x, weights, layer.epsilons[1]))
        x = _normalised(x, weights, encoder.norm.eps).reshape(x.shape) * weights.gain
    return torch.from_numpy(x.reshape(len(x), len(weights.degrees), -1))


def _takes(encoder: Encoder, graph: GraphBatch) -> bool:
    config = encoder.config
    if len(graph.ptr) != 2 or len(graph.pos) > MOST_ATOMS or graph.pos.device.type != "cpu":
        return False
    exact = encoder.species.weight.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    of_radius = graph.src is None and graph.cell is None and not config.neighbours and encoder.inputs is None
    known = config.convolution == "separable" and config.lmax <= DENSE_LMAX
    own = type(encoder) is SE3Transformer and all(type(block) is SE3TransformerBlock for block in encoder.blocks)
    return exact and of_radius and known and own


def _grid(encoder: SE3Transformer, weights: Weights, numbers: np.ndarray, pos: np.ndarray) -> Grid | None:
    """The grid of a molecule (N,), (N, 3) Å; None if it has no edges."""
    atoms, size, cutoff = len(numbers), num_components(encoder.config.lmax), encoder.config.cutoff
    pairs = pos[:, None] - pos  # receivers first
    square = (pairs * pairs).sum(-1)
    near = (square < cutoff**2) & (square >= ZERO_LENGTH**2)
    places = near.ravel().nonzero()[0]
    if len(places) == 0:
        return None
    dst, src = np.divmod(places, atoms)
    length = np.sqrt(square.ravel().take(places))
    basis, envelope = encoder.edges.basis, encoder.edges.envelope
    # √(2/u) sin(nπ x/u) / x with x = u r/r_c, see `BesselBasis`
    waves = np.sin(length[:, None] * (weights.order * (pi / cutoff)))
    waves *= (sqrt(2 / basis.unit) * cutoff / basis.unit / length)[:, None]
    ends = weights.from_src.take(numbers, 0) + weights.from_dst.take(numbers, 0)[:, None]
    ends = ends.reshape(atoms * atoms, -1).take(places, 0)
    mixed = torch.addmm(torch.from_numpy(ends), torch.from_numpy(waves), weights.from_basis)
    mixed = nn.functional.silu(torch.addmm(weights.mix_bias, nn.functional.silu(mixed), weights.mix))
    edges = np.maximum(near.ravel().cumsum() - 1, 0)
    frames = edge_frames_array(pairs.reshape(-1, 3).take(places, 0) / length[:, None], encoder.config.lmax)
    at_receivers = frames.take(edges, 0)
    at_receivers[:: atoms + 1] = 0
    at_senders = at_receivers.reshape(atoms, atoms, size, size).swapaxes(0, 1).reshape(atoms, -1, size)
    terms = np.where(near, np.log(envelope.of_array(length)).take(edges).reshape(atoms, atoms), -np.inf)
    np.fill_diagonal(terms, 0.0)
    return Grid(
        at_receivers=at_receivers.reshape(atoms, -1, size),
        at_senders=at_senders,
        mirrored=src * atoms + dst,
        edges=edges,
        features=mixed,
        terms=terms[..., None].astype(pos.dtype, copy=False),
    )


def _normalised(x: np.ndarray, weights: Weights, eps: float) -> np.ndarray:
    """Rows x (N, M·C) over their root mean squares, without the gain: (N, M, C)."""
    mean = torch.mm(torch.from_numpy(x * x), weights.share).numpy()
    mean += eps
    return (x / np.sqrt(mean, out=mean)).reshape(len(x), len(weights.degrees), -1)


def _attention(layer: Layer, grid: Grid, x: np.ndarray) -> np.ndarray:
    """`SE3Attention` of normalised features (N, M, C): (N, M·C)."""
    atoms, size, channels = x.shape
    pairs, width = atoms * atoms, layer.output.shape[1]
    y = _product(x.swapaxes(0, 1), layer.project).swapaxes(0, 1)
    queries, own, senders = y[..., :width], y[..., width : width + channels], y[..., width + channels :]
    # Keys and values, edge by edge.
    scaled = torch.addmm(layer.scale_bias, grid.features, layer.scale_weight)  # (E, M·D)
    numbers = scaled.numpy()
    numbers *= _product(grid.at_senders, senders).reshape(pairs, -1).take(grid.mirrored, 0)
    sent = scaled.new_empty(len(scaled), 2 * scaled.shape[1])
    rows, parts = scaled.split(layer.widths, dim=1), sent.split(layer.widths * 2, dim=1)
    for row, matrix, part in zip(rows * 2, layer.matrices, parts, strict=True):
        torch.mm(row, matrix, out=part)
    on_grid = sent.numpy().take(grid.edges, 0)
    keys, values = on_grid[:, : size * width], on_grid[:, size * width :]  # (N², M·D)
    # Logits on the grid: q·k, with queries and keys over their sizes if they are normalised.
    logits = _of_heads(_product(grid.at_receivers, queries).reshape(pairs, -1) * keys, layer)
    scale = layer.scale
    if layer.normalised:
        eps = size * width // layer.heads.shape[1] * EPSILON
        logits /= np.sqrt(_of_heads(keys * keys, layer) + eps)
        scale = (scale / np.sqrt(_of_heads((queries * queries).reshape(atoms, -1), layer) + eps))[:, None]
    logits = logits.reshape(atoms, atoms, -1)
    logits *= scale
    logits += grid.terms
    weights = torch.softmax(torch.from_numpy(logits), dim=1).view(pairs, -1)
    received = (values * torch.mm(weights, layer.heads.T).numpy()).reshape(atoms, -1, width)
    sums = _product(grid.at_receivers.swapaxes(1, 2), received)  # (N, M, D)
    out = _product(sums.swapaxes(0, 1), layer.output).swapaxes(0, 1)
    return (own + out).reshape(atoms, -1)


def _of_heads(x: np.ndarray, layer: Layer) -> np.ndarray:
    """Sum of the numbers of each head in rows (…, M·D): (…, H)."""
    return torch.mm(torch.from_numpy(x), layer.heads).numpy()


def _feed_forward(layer: Layer, degrees: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`GatedFeedForward` of normalised features (N, M, C): (N, M·C)."""
    x = x.swapaxes(0, 1)
    gates = 1 / (1 + np.exp(-(_product(x[:1], layer.gate) + layer.gate_bias)))
    y = (_product(x, layer.expand) + layer.expand_bias) * gates.take(degrees, 0)
    return _product(y, layer.reduce).swapaxes(0, 1).reshape(x.shape[1], -1)


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrix products of stacks of matrices, in the threads that torch may take."""
    if x.shape[-2] * x.shape[-1] * y.shape[-1] <= ONE_THREAD:
        return np.matmul(x, y)
    return torch.matmul(torch.from_numpy(x), torch.from_numpy(y)).numpy()


def _gain(norm: EquivariantRMSNorm) -> Tensor:
    """Of each component and channel (M, C, 1)."""
    return norm.gain.index_select(0, norm.degrees).unsqueeze(-1)


def _identity(like: Tensor, channels: int) -> Tensor:
    """A linear map of each degree that changes nothing (lmax+1, C, C)."""
    return torch.eye(channels).to(like).expand(round(sqrt(len(like))), -1, -1)


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy())
