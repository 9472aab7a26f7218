"""Attention on the edges of a GPU in two fused kernels, written in Triton, each with its backward.

1. `turned_in`: gather and rotate, y_e = D_e x_src(e).
2. `attended`: a program for each receiving node goes through its edges once and keeps what it needs in registers, as in
   FlashAttention (Dao et al. 2022, arXiv 2205.14135): rotate the query, logits, softmax, rotate the value back, sum,
       f_i = Σ_e D_eᵀ α_e v_e,   α_e = u_e exp(s_e) / (1 + Σ u exp(s)),   s_e = scale (D_e q_i)·k_e / |k_e|.
   Of the attention weights nothing is stored but the logarithm of the denominator.
Between the two stands the kernel of `nn.so2`, which is products of matrices. Sums over a sender's edges are atomic, so
that their rounding differs from run to run. Frames and envelopes get no gradient, and there is no second derivative:
for forces there is `SE3Attention.attend`.

Letters: N nodes, E edges, M = (lmax+1)² components, at most 16 (`so3.turning.DENSE_LMAX`), C channels, H heads.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from molformer.nn.edges import Edges

_FAINTEST: tl.constexpr = tl.constexpr(1e-30)


def turned_in(x: Tensor, edges: Edges) -> Tensor:
    """Features of the senders in the frames of their edges: (N, M, C) to (E, M, C).

    Args:
        x: features of the nodes.
        edges: with frames (E, M, M) that need no gradient.
    """
    y: Tensor = _TurnIn.apply(x, edges.frames, edges.src)
    return y


def attended(
    queries: Tensor, keys: Tensor, values: Tensor, edges: Edges, num_heads: int, scale: float, eps: float | None
) -> Tensor:
    """What the nodes receive: (N, M, C).

    Args:
        queries: (N, M, C), in the common frame.
        keys: (E, M, C), in the frames.
        values: (E, M, C), in the frames.
        edges: sorted by receiver; frames and envelopes need no gradient.
        num_heads: H.
        scale: factor of the logits.
        eps: with it, each head's part of a key is divided by the root of its mean square and this; None does not.
    """
    sums: Tensor = _Attend.apply(
        queries, keys, values, edges.frames, edges.envelope, edges.starts, num_heads, scale, eps
    )
    return sums


class _TurnIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: Tensor, src: Tensor) -> Tensor:
        ctx.save_for_backward(frames, src)
        ctx.num_nodes = len(x)
        y = x.new_empty(len(src), *x.shape[1:])
        if len(src):
            _turn_in[(len(src),)](x.contiguous(), frames, src, y, **_sizes(x))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        frames, src = ctx.saved_tensors
        sums = torch.zeros(ctx.num_nodes, *grad.shape[1:], dtype=_summed_in(grad), device=grad.device)
        if len(src):
            _turn_back_to_senders[(len(src),)](grad.contiguous(), frames, src, sums, **_sizes(grad))
        return sums.to(grad.dtype), None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        frames: Tensor,
        envelope: Tensor,
        starts: Tensor,
        num_heads: int,
        scale: float,
        eps: float | None,
    ) -> Tensor:
        queries, keys, values = queries.contiguous(), keys.contiguous(), values.contiguous()
        sums = torch.empty_like(queries)
        logs = torch.empty(len(queries), num_heads, dtype=_summed_in(queries), device=queries.device)
        ctx.sizes = _sizes(queries) | {"H": num_heads, "HP": triton.next_power_of_2(num_heads), "NORM": eps is not None}
        ctx.scale, ctx.eps = scale, eps or 0.0
        given = queries, keys, values, frames, envelope, starts
        _attend[(len(queries),)](*given, sums, logs, scale, ctx.eps, **ctx.sizes)
        ctx.save_for_backward(*given, sums, logs)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in saved[:3]]
        _attend_backward[(len(grad),)](*saved, grad.contiguous(), *grads, ctx.scale, ctx.eps, **ctx.sizes)
        return *grads, *[None] * 6


def _summed_in(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _sizes(x: Tensor) -> dict[str, Any]:
    """Sizes of features (…, M, C) as they are and as the kernels take them, and the type in which these compute."""
    components, channels = x.shape[1:]
    accumulated = tl.float64 if x.dtype == torch.float64 else tl.float32
    return {"M": components, "C": channels, "CP": max(16, triton.next_power_of_2(channels)), "ACC": accumulated}


@triton.jit
def _load(pointer, row, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CP: tl.constexpr, ACC: tl.constexpr):
    """A matrix (ROWS, COLUMNS), one of many, with zeros around it: (16, CP)."""
    rows, columns = tl.arange(0, 16)[:, None], tl.arange(0, CP)[None, :]
    inside = (rows < ROWS) & (columns < COLUMNS)
    start = pointer + row * ROWS * COLUMNS
    return tl.load(start + rows * COLUMNS + columns, mask=inside, other=0.0).to(ACC)


@triton.jit
def _places(row, M: tl.constexpr, C: tl.constexpr, CP: tl.constexpr):
    """Where the numbers (16, CP) of a row of features (M, C) stand, and which of them there are."""
    rows, columns = tl.arange(0, 16)[:, None], tl.arange(0, CP)[None, :]
    return row * M * C + rows * C + columns, (rows < M) & (columns < C)


@triton.jit
def _turn_in(x, frames, src, y, M: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, ACC: tl.constexpr):
    edge = tl.program_id(0).to(tl.int64)
    frame = _load(frames, edge, M, M, 16, ACC)
    sent = _load(x, tl.load(src + edge), M, C, CP, ACC)
    places, inside = _places(edge, M, C, CP)
    tl.store(y + places, tl.dot(frame, sent, input_precision="ieee"), mask=inside)


@triton.jit
def _turn_back_to_senders(
    grad, frames, src, sums, M: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, ACC: tl.constexpr
):
    edge = tl.program_id(0).to(tl.int64)
    frame = _load(frames, edge, M, M, 16, ACC)
    turned = tl.dot(tl.trans(frame), _load(grad, edge, M, C, CP, ACC), input_precision="ieee")
    places, inside = _places(tl.load(src + edge), M, C, CP)
    tl.atomic_add(sums + places, turned, mask=inside)


@triton.jit
def _heads(C: tl.constexpr, H: tl.constexpr, CP: tl.constexpr, HP: tl.constexpr, ACC: tl.constexpr):
    """1 where a channel is one of a head's, (CP, HP)."""
    channels = tl.arange(0, CP)[:, None]
    return ((channels < C) & (channels // (C // H) == tl.arange(0, HP)[None, :])).to(ACC)


@triton.jit
def _by_head(x, y, heads):
    """Scalar products (HP,) of each head's part of x and y (16, CP)."""
    return tl.sum(tl.sum(x * y, axis=0)[:, None] * heads, axis=0)


@triton.jit
def _by_channel(x, heads):
    """Numbers of heads (HP,) for each of their channels (1, CP)."""
    return tl.sum(heads * x[None, :], axis=1)[None, :]


@triton.jit
def _inverse_sizes(key, heads, eps, NUMBERS: tl.constexpr, NORM: tl.constexpr):
    """One over the root mean square of each head's part of a key, NUMBERS of them, (HP,); 1 without NORM."""
    squares = _by_head(key, key, heads)
    return 1 / tl.sqrt(squares / NUMBERS + eps) if NORM else squares * 0 + 1


@triton.jit
def _term(logit, envelope):
    """log(u exp(s)), minus infinity for an edge without weight."""
    return tl.where(envelope > _FAINTEST, logit + tl.log(tl.maximum(envelope, _FAINTEST)), float("-inf"))


@triton.jit
def _attend(
    queries,
    keys,
    values,
    frames,
    envelopes,
    starts,
    sums,
    logs,
    scale,
    eps,
    M: tl.constexpr,
    C: tl.constexpr,
    H: tl.constexpr,
    CP: tl.constexpr,
    HP: tl.constexpr,
    NORM: tl.constexpr,
    ACC: tl.constexpr,
):
    node = tl.program_id(0).to(tl.int64)
    heads = _heads(C, H, CP, HP, ACC)
    query = _load(queries, node, M, C, CP, ACC)
    largest = tl.zeros((HP,), dtype=ACC)  # so far: at first the constant's term, exp(0)
    total = tl.full((HP,), 1.0, dtype=ACC)
    received = tl.zeros((16, CP), dtype=ACC)
    for edge in range(tl.load(starts + node), tl.load(starts + node + 1)):
        frame = _load(frames, edge, M, M, 16, ACC)
        key = _load(keys, edge, M, C, CP, ACC)
        inverse = _inverse_sizes(key, heads, eps, M * C // H, NORM)
        logit = _by_head(tl.dot(frame, query, input_precision="ieee"), key, heads) * scale * inverse
        term = _term(logit, tl.load(envelopes + edge).to(ACC))
        larger = tl.maximum(largest, term)
        shrinks, weight = tl.exp(largest - larger), tl.exp(term - larger)
        total = total * shrinks + weight
        weighted = _load(values, edge, M, C, CP, ACC) * _by_channel(weight, heads)
        turned = tl.dot(tl.trans(frame), weighted, input_precision="ieee")
        received = received * _by_channel(shrinks, heads) + turned
        largest = larger
    places, inside = _places(node, M, C, CP)
    tl.store(sums + places, received * _by_channel(1 / total, heads), mask=inside)
    head = tl.arange(0, HP)
    tl.store(logs + node * H + head, largest + tl.log(total), mask=head < H)


@triton.jit
def _attend_backward(
    queries,
    keys,
    values,
    frames,
    envelopes,
    starts,
    sums,
    logs,
    grads,
    query_grads,
    key_grads,
    value_grads,
    scale,
    eps,
    M: tl.constexpr,
    C: tl.constexpr,
    H: tl.constexpr,
    CP: tl.constexpr,
    HP: tl.constexpr,
    NORM: tl.constexpr,
    ACC: tl.constexpr,
):
    # y = Σ α v:  ∂v = α ∂y,  ∂α = v·∂y;  ∂s = α (∂α - Σ α ∂α), and Σ α ∂α = y·∂y;  of s = q·k: ∂q = k ∂s,  ∂k = q ∂s
    node = tl.program_id(0).to(tl.int64)
    heads = _heads(C, H, CP, HP, ACC)
    query = _load(queries, node, M, C, CP, ACC)
    grad = _load(grads, node, M, C, CP, ACC)
    mean = _by_head(_load(sums, node, M, C, CP, ACC), grad, heads)
    head = tl.arange(0, HP)
    log = tl.load(logs + node * H + head, mask=head < H, other=0.0)
    query_grad = tl.zeros((16, CP), dtype=ACC)
    for edge in range(tl.load(starts + node), tl.load(starts + node + 1)):
        frame = _load(frames, edge, M, M, 16, ACC)
        key = _load(keys, edge, M, C, CP, ACC)
        turned_query = tl.dot(frame, query, input_precision="ieee")
        turned_grad = tl.dot(frame, grad, input_precision="ieee")
        inverse = _inverse_sizes(key, heads, eps, M * C // H, NORM)
        logit = _by_head(turned_query, key, heads) * scale * inverse
        weight = tl.exp(_term(logit, tl.load(envelopes + edge).to(ACC)) - log)
        value = _load(values, edge, M, C, CP, ACC)
        logit_grad = weight * (_by_head(turned_grad, value, heads) - mean)
        scaled = _by_channel(logit_grad * scale * inverse, heads)
        key_grad = turned_query * scaled
        if NORM:  # r = 1/√(ε + k²/n) of s = q·k r too:  ∂k = q r ∂s - k s r² ∂s/n
            key_grad -= key * _by_channel(logit_grad * logit * inverse * inverse / (M * C // H), heads)
        places, inside = _places(edge, M, C, CP)
        tl.store(key_grads + places, key_grad, mask=inside)
        tl.store(value_grads + places, turned_grad * _by_channel(weight, heads), mask=inside)
        query_grad += tl.dot(tl.trans(frame), key * scaled, input_precision="ieee")
    places, inside = _places(node, M, C, CP)
    tl.store(query_grads + places, query_grad, mask=inside)
