"""The messages of attention in two fused Triton kernels for a GPU, each with its backward.

1. `rotate_in`: gather, rotate and scale, y_e = s_e ∘ D_e x_src(e).
2. `attend`: a program for each receiving node passes over its edges once, with its state in registers, as in
   FlashAttention (Dao et al. 2022, arXiv 2205.14135): rotate the query, logits, softmax, rotate the value back, sum,
       f_i = Σ_e D_eᵀ α_e v_e,   α_e = u_e exp(s_e) / (1 + Σ u exp(s)),   s_e = (D_e q_i)·k_e / |k_e|.
   Attention weights are not stored, only the logarithm of the denominator.
The convolution of `nn.so2` is between the two, as matrix products. Sums over a sender's edges are
atomic, so that their rounding differs from run to run. Frames and envelopes get no gradient, and there is no second
derivative: forces need the other kernels.

Letters: N nodes, E edges, M = (lmax+1)² components, at most 16, C channels, H heads.
"""

from functools import cache
from math import isqrt
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from molformer.nn.attention import EPSILON, SE3Attention
from molformer.nn.edges import Edges
from molformer.nn.so2 import SeparableConvolution
from molformer.so3.components import frame_order

_FAINTEST: tl.constexpr = tl.constexpr(1e-30)


def fused(layer: SE3Attention, queries: Tensor, sent: Tensor, edges: Edges) -> Tensor:
    """`nn.attention.attend` by the fused kernels."""
    convolution, eps = layer.convolution, None if layer.gain is None else EPSILON
    if type(convolution) is SeparableConvolution:
        pairs = _pairs(convolution.lmax, sent.device)
        scaled = rotate_in(sent, edges, convolution.radial(edges.features), pairs)
        framed = convolution.mix(convolution.orders(scaled), convolution.matrices())
    else:
        framed = convolution(rotate_in(sent, edges), edges.features)
    return attend(queries, framed.unflatten(2, (2, -1)), edges, layer.num_heads, eps)


@cache
def _pairs(lmax: int, device: torch.device) -> Tensor:
    """The pair (l, |m|) of each component in the order of the frames (M,), counted as `SeparableConvolution` does."""
    components = [(index, isqrt(index)) for index in frame_order(lmax)]
    pairs = [(abs(index - degree**2 - degree), degree) for index, degree in components]  # (|m|, l)
    with torch.inference_mode(False):
        return torch.tensor([sorted(set(pairs)).index(pair) for pair in pairs], device=device)


def rotate_in(x: Tensor, edges: Edges, scales: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
    """Features of the senders (N, M, C) in the edge frames of their edges (E, M, C), whose Wigner matrices need no
    gradient; perhaps times factors of each pair (l, |m|) and channel (E, P·C), with the pair of each component (M,).
    """
    y: Tensor = _RotateIn.apply(x, scales, edges.wigner, edges.src, pairs)
    return y


def attend(queries: Tensor, sent: Tensor, edges: Edges, num_heads: int, eps: float | None) -> Tensor:
    """Messages aggregated at the nodes (N, M, C): queries (N, M, C) in the common frame, keys and values (E, M, 2, C)
    in those of edges that are sorted by receiver, whose Wigner matrices and envelopes need no gradient.

    With `eps`, each head's part of a key is divided by the root of its mean square and this.
    """
    sums: Tensor = _Attend.apply(queries, sent, edges.wigner, edges.envelope, edges.starts, num_heads, eps)
    return sums


class _RotateIn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: Tensor | None, wigner: Tensor, src: Tensor, pairs: Tensor | None
    ) -> Tensor:
        x, scales = x.contiguous(), None if scales is None else scales.contiguous()
        ctx.save_for_backward(x, scales, wigner, src, pairs)
        y = x.new_empty(len(src), *x.shape[1:])
        if len(src):
            _rotate_in[(len(src),)](x, scales, wigner, src, pairs, y, P=_count(scales, x), **_sizes(x))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scales, wigner, src, pairs = ctx.saved_tensors
        sums = torch.zeros(x.shape, dtype=_summed_in(grad), device=grad.device)
        scale_grads = None if scales is None else torch.empty_like(scales)
        if len(src):
            given = grad.contiguous(), x, scales, wigner, src, pairs
            _rotate_back_to_senders[(len(src),)](*given, sums, scale_grads, P=_count(scales, x), **_sizes(grad))
        return sums.to(grad.dtype), scale_grads, None, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        sent: Tensor,
        wigner: Tensor,
        envelope: Tensor,
        starts: Tensor,
        num_heads: int,
        eps: float | None,
    ) -> Tensor:
        queries, sent = queries.contiguous(), sent.contiguous()
        sums = torch.empty_like(queries)
        logs = torch.empty(len(queries), num_heads, dtype=_summed_in(queries), device=queries.device)
        heads = {"H": num_heads, "HP": triton.next_power_of_2(num_heads)}
        ctx.sizes = _sizes(queries) | heads | {"NORM": eps is not None, "EPS": eps or 0.0}
        given = queries, sent, wigner, envelope, starts
        _attend[(len(queries),)](*given, sums, logs, **ctx.sizes)
        ctx.save_for_backward(*given, sums, logs)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in saved[:2]]
        _attend_backward[(len(grad),)](*saved, grad.contiguous(), *grads, **ctx.sizes)
        return *grads, *[None] * 5


def _count(scales: Tensor | None, x: Tensor) -> int:
    """P, the number of pairs that have a scale, 0 without."""
    return 0 if scales is None else scales.shape[1] // x.shape[2]


def _summed_in(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _sizes(x: Tensor) -> dict[str, Any]:
    """Sizes of features (…, M, C) as they are and as the kernels take them, and the type in which these compute."""
    components, channels = x.shape[1:]
    accumulated = tl.float64 if x.dtype == torch.float64 else tl.float32
    padded = max(16, triton.next_power_of_2(channels))
    warps = max(1, padded // 32)  # one was fastest for 32 channels: then no sum goes through shared memory
    return {"M": components, "C": channels, "CP": padded, "ACC": accumulated, "num_warps": warps}


@triton.jit
def _places(row, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CP: tl.constexpr, OF: tl.constexpr = 1):
    """Offsets (16, CP) of the entries of a matrix (ROWS, COLUMNS) in a stack of them, and the mask of those that exist.

    OF such matrices are stored with their rows side by side.
    """
    rows, columns = tl.arange(0, 16)[:, None], tl.arange(0, CP)[None, :]
    return (row * ROWS + rows) * OF * COLUMNS + columns, (rows < ROWS) & (columns < COLUMNS)


@triton.jit
def _load(
    pointer, row, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CP: tl.constexpr, ACC: tl.constexpr, OF: tl.constexpr = 1
):
    """One of the matrices of `_places`, padded with zeros: (16, CP)."""
    places, inside = _places(row, ROWS, COLUMNS, CP, OF)
    return tl.load(pointer + places, mask=inside, other=0.0).to(ACC)


@triton.jit
def _load_scales(
    scales, edge, pairs, M: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, P: tl.constexpr, ACC: tl.constexpr
):
    """The scale of each entry of an edge's features (16, CP)."""
    rows, columns = tl.arange(0, 16), tl.arange(0, CP)[None, :]
    pair = tl.load(pairs + rows, mask=rows < M, other=0)[:, None]
    inside = (rows[:, None] < M) & (columns < C)
    return tl.load(scales + (edge * P + pair) * C + columns, mask=inside, other=0.0).to(ACC)


@triton.jit
def _rotate_in(
    x,
    scales,
    wigner,
    src,
    pairs,
    y,
    M: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    P: tl.constexpr,
    ACC: tl.constexpr,
):
    edge = tl.program_id(0).to(tl.int64)
    frame = _load(wigner, edge, M, M, 16, ACC)
    rotated = tl.dot(frame, _load(x, tl.load(src + edge), M, C, CP, ACC), input_precision="ieee")
    if P > 0:
        rotated *= _load_scales(scales, edge, pairs, M, C, CP, P, ACC)
    places, inside = _places(edge, M, C, CP)
    tl.store(y + places, rotated, mask=inside)


@triton.jit
def _rotate_back_to_senders(
    grad,
    x,
    scales,
    wigner,
    src,
    pairs,
    sums,
    scale_grads,
    M: tl.constexpr,
    C: tl.constexpr,
    CP: tl.constexpr,
    P: tl.constexpr,
    ACC: tl.constexpr,
):
    edge = tl.program_id(0).to(tl.int64)
    sender = tl.load(src + edge)
    frame = _load(wigner, edge, M, M, 16, ACC)
    given = _load(grad, edge, M, C, CP, ACC)
    if P > 0:  # of y = s t, t = D x:  ∂s = Σ t ∂y over the components of a pair,  ∂t = s ∂y
        rotated = tl.dot(frame, _load(x, sender, M, C, CP, ACC), input_precision="ieee")
        rows = tl.arange(0, 16)
        pair = tl.load(pairs + rows, mask=rows < M, other=-1)
        belongs = (pair[None, :] == rows[:, None]).to(ACC)
        scale_places, there = _places(edge, P, C, CP)
        tl.store(scale_grads + scale_places, tl.dot(belongs, rotated * given, input_precision="ieee"), mask=there)
        given *= _load_scales(scales, edge, pairs, M, C, CP, P, ACC)
    places, inside = _places(sender, M, C, CP)
    tl.atomic_add(sums + places, tl.dot(tl.trans(frame), given, input_precision="ieee"), mask=inside)


@triton.jit
def _heads(C: tl.constexpr, H: tl.constexpr, CP: tl.constexpr, HP: tl.constexpr, ACC: tl.constexpr):
    """1 where a channel is one of a head's, (CP, HP)."""
    channels = tl.arange(0, CP)[:, None]
    return ((channels < C) & (channels // (C // H) == tl.arange(0, HP)[None, :])).to(ACC)


@triton.jit
def _head_sums(x, y, heads):
    """Scalar products (HP,) of each head's part of x and y (16, CP)."""
    return tl.sum(tl.sum(x * y, axis=0)[:, None] * heads, axis=0)


@triton.jit
def _by_channel(x, heads):
    """Values of heads (HP,) for each of their channels (1, CP)."""
    return tl.sum(heads * x[None, :], axis=1)[None, :]


@triton.jit
def _inverse_sizes(key, heads, NUMEL: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr):
    """One over the root mean square of each head's NUMEL entries of a key, (HP,); 1 without NORM."""
    squares = _head_sums(key, key, heads)
    return 1 / tl.sqrt(squares / NUMEL + EPS) if NORM else squares * 0 + 1


@triton.jit
def _term(logit, envelope):
    """log(u exp(s)), minus infinity for an edge without weight."""
    return tl.where(envelope > _FAINTEST, logit + tl.log(tl.maximum(envelope, _FAINTEST)), float("-inf"))


@triton.jit
def _attend(
    queries,
    sent,
    wigner,
    envelopes,
    starts,
    sums,
    logs,
    M: tl.constexpr,
    C: tl.constexpr,
    H: tl.constexpr,
    CP: tl.constexpr,
    HP: tl.constexpr,
    NORM: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
):
    node = tl.program_id(0).to(tl.int64)
    heads = _heads(C, H, CP, HP, ACC)
    query = _load(queries, node, M, C, CP, ACC)
    largest = tl.zeros((HP,), dtype=ACC)  # so far: at first the constant's term, exp(0)
    total = tl.full((HP,), 1.0, dtype=ACC)
    received = tl.zeros((16, CP), dtype=ACC)
    for edge in range(tl.load(starts + node), tl.load(starts + node + 1)):
        frame = _load(wigner, edge, M, M, 16, ACC)
        key = _load(sent, edge, M, C, CP, ACC, 2)
        inverse = _inverse_sizes(key, heads, M * C // H, NORM, EPS)
        logit = _head_sums(tl.dot(frame, query, input_precision="ieee"), key, heads) * inverse
        term = _term(logit, tl.load(envelopes + edge).to(ACC))
        larger = tl.maximum(largest, term)
        shrinks, weight = tl.exp(largest - larger), tl.exp(term - larger)
        total = total * shrinks + weight
        weighted = _load(sent + C, edge, M, C, CP, ACC, 2) * _by_channel(weight, heads)
        rotated = tl.dot(tl.trans(frame), weighted, input_precision="ieee")
        received = received * _by_channel(shrinks, heads) + rotated
        largest = larger
    places, inside = _places(node, M, C, CP)
    tl.store(sums + places, received * _by_channel(1 / total, heads), mask=inside)
    head = tl.arange(0, HP)
    tl.store(logs + node * H + head, largest + tl.log(total), mask=head < H)


@triton.jit
def _attend_backward(
    queries,
    sent,
    wigner,
    envelopes,
    starts,
    sums,
    logs,
    grads,
    query_grads,
    sent_grads,
    M: tl.constexpr,
    C: tl.constexpr,
    H: tl.constexpr,
    CP: tl.constexpr,
    HP: tl.constexpr,
    NORM: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
):
    # y = Σ α v:  ∂v = α ∂y,  ∂α = v·∂y;  ∂s = α (∂α - Σ α ∂α), and Σ α ∂α = y·∂y;  of s = q·k: ∂q = k ∂s,  ∂k = q ∂s
    node = tl.program_id(0).to(tl.int64)
    heads = _heads(C, H, CP, HP, ACC)
    query = _load(queries, node, M, C, CP, ACC)
    grad = _load(grads, node, M, C, CP, ACC)
    mean = _head_sums(_load(sums, node, M, C, CP, ACC), grad, heads)
    head = tl.arange(0, HP)
    log = tl.load(logs + node * H + head, mask=head < H, other=0.0)
    query_grad = tl.zeros((16, CP), dtype=ACC)
    for edge in range(tl.load(starts + node), tl.load(starts + node + 1)):
        frame = _load(wigner, edge, M, M, 16, ACC)
        key = _load(sent, edge, M, C, CP, ACC, 2)
        rotated_query = tl.dot(frame, query, input_precision="ieee")
        rotated_grad = tl.dot(frame, grad, input_precision="ieee")
        inverse = _inverse_sizes(key, heads, M * C // H, NORM, EPS)
        logit = _head_sums(rotated_query, key, heads) * inverse
        weight = tl.exp(_term(logit, tl.load(envelopes + edge).to(ACC)) - log)
        value = _load(sent + C, edge, M, C, CP, ACC, 2)
        logit_grad = weight * (_head_sums(rotated_grad, value, heads) - mean)
        scaled = _by_channel(logit_grad * inverse, heads)
        key_grad = rotated_query * scaled
        if NORM:  # r = 1/√(ε + k²/n) of s = q·k r too:  ∂k = q r ∂s - k s r² ∂s/n
            key_grad -= key * _by_channel(logit_grad * logit * inverse * inverse / (M * C // H), heads)
        places, inside = _places(edge, M, C, CP, 2)
        tl.store(sent_grads + places, key_grad, mask=inside)
        tl.store(sent_grads + C + places, rotated_grad * _by_channel(weight, heads), mask=inside)
        query_grad += tl.dot(tl.trans(frame), key * scaled, input_precision="ieee")
    places, inside = _places(node, M, C, CP)
    tl.store(query_grads + places, query_grad, mask=inside)
