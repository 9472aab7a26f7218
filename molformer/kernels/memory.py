"""The memory kernel: messages of a chunk of receivers at a time, saving little but the inputs.

A chunk is all edges into some consecutive nodes, so that the softmax over the neighbors of a node is complete in
it; all else is recomputed in the backward (Chen et al. 2016, arXiv 1604.06174), which runs over the same chunks. The
backward is computed in chunks in turn, so that derivatives of every order, from energies to forces to a loss on forces,
never hold more than one chunk.

Letters: N nodes, E edges, e edges of a chunk, M components, C channels, D channels of keys and values.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molformer.kernels.autocast import Autocast
from molformer.kernels.vjp import aggregate_vjp, convolution_vjp
from molformer.nn.attention import SE3Attention
from molformer.nn.edges import Edges

SAVED_NUMEL = 1 << 24  # size up to which keys and values of a layer are saved for the backward, not computed again


class Chunk(NamedTuple):
    """The edges into some nodes, and these nodes."""

    edges: slice
    nodes: slice


class Rows(Enum):
    """What a row of a tensor belongs to, and so which rows a chunk takes."""

    SENDERS = auto()
    """Nodes (N, …); a chunk takes the row of the sender of each of its edges (e, …)."""
    RECEIVERS = auto()
    """Nodes (N, …); a chunk takes those of its nodes."""
    EDGES = auto()
    """Edges (E, …); a chunk takes its own (e, …)."""
    SHARED = auto()
    """A weight, which every chunk takes whole."""


_Inputs = tuple[Tensor, ...]  # queries (N, M, D), features (N, M, C), Wigner matrices, envelopes, radial, weights
_ROWS = (Rows.RECEIVERS, Rows.SENDERS, Rows.EDGES, Rows.EDGES, Rows.EDGES)


def chunked(layer: SE3Attention, queries: Tensor, sent: Tensor, edges: Edges, size: int) -> Tensor:
    """`nn.attention.attend`, chunks of about `size` edges at a time."""
    matrices = layer.convolution.matrices()
    inputs = queries, sent, edges.wigner, edges.envelope, layer.convolution.radial(edges.features), *matrices
    rows = *_ROWS, *[Rows.SHARED] * len(matrices)
    numel = 2 * len(edges.src) * queries[0].numel()
    messages = _Messages(layer, edges.dst, {} if torch.is_grad_enabled() and numel <= SAVED_NUMEL else None)
    work = _Chunked(messages, rows, ((Rows.RECEIVERS, 0),), receiver_chunks(edges.starts, size), edges.src)
    return _Apply.apply(work, *inputs)[0]


def receiver_chunks(starts: Tensor, size: int) -> list[Chunk]:
    """Cut edges that are sorted by receiver, with the first edge into each node, and E, (N+1,), into chunks of about
    `size` edges; a node with more than these is a chunk of its own.

    Example:
        >>> [chunk.edges for chunk in receiver_chunks(torch.tensor([0, 2, 4, 9, 9]), size=4)]
        [slice(0, 4, None), slice(4, 9, None), slice(9, 9, None)]
    """
    starts = starts.cpu()
    node, chunks = 0, []
    while node < len(starts) - 1:
        first = int(starts[node])
        last = max(node + 1, int(torch.searchsorted(starts, first + size, right=True)) - 1)
        chunks.append(Chunk(slice(first, int(starts[last])), slice(node, last)))
        node = last
    return chunks


class _Messages(NamedTuple):
    """Messages of a chunk as a function of its inputs."""

    layer: SE3Attention  # whose convolution and heads are used
    dst: Tensor  # receiving nodes (E,)
    saved: dict[int, Tensor] | None  # keys and values (e, M, 2·D) of each chunk by its first node, or None

    def __call__(self, chunk: Chunk, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Messages (n, M, D)."""
        queries, sent, _, _, radial, *matrices = inputs
        edges = self.edges(chunk, inputs)
        framed = self.layer.convolution.convolve(edges.rotate_in(sent), radial, matrices)
        keys_and_values = edges.rotate_out(framed)
        if self.saved is not None and not torch.is_grad_enabled():
            self.saved[chunk.nodes.start] = keys_and_values
        keys, values = keys_and_values.chunk(2, dim=-1)
        return (self.layer.aggregate(queries, keys, values, edges),)

    def edges(self, chunk: Chunk, inputs: Sequence[Tensor]) -> Edges:
        """The edges of a chunk, each with a sender of its own."""
        queries, _, wigner, envelope, radial, *_ = inputs
        dst = self.dst[chunk.edges] - chunk.nodes.start
        return Edges(torch.arange(len(dst), device=dst.device), dst, len(queries), wigner, radial, envelope)

    def vjp(self, chunk: Chunk, inputs: Sequence[Tensor], grad: Tensor) -> dict[int, Tensor]:
        """Gradients by place of the input, from saved keys and values, of all but frames and envelopes."""
        queries, sent, _, _, radial, *matrices = inputs
        assert self.saved is not None
        edges = self.edges(chunk, inputs)
        keys_and_values = self.saved.pop(chunk.nodes.start)
        grad_queries, grad_out = aggregate_vjp(self.layer, queries, keys_and_values, edges, grad)
        framed = edges.rotate_in(sent), radial, matrices, edges.rotate_in(grad_out)
        grad_in, grad_radial, grad_matrices = convolution_vjp(self.layer.convolution, *framed)
        found = grad_queries, edges.rotate_out(grad_in), grad_radial, *grad_matrices
        return dict(zip((0, 1, 4, *range(5, 5 + len(matrices))), found, strict=True))

    def has_vjp(self, chunk: Chunk, wanted: Sequence[int]) -> bool:
        """Whether `vjp` gives these gradients; a second backward through the same graph has to recompute."""
        there = self.saved is not None and chunk.nodes.start in self.saved
        return there and not {2, 3} & set(wanted) and not torch.is_autocast_enabled(self.dst.device.type)


class _Chunked(NamedTuple):
    """A function of nodes and edges, computed chunk by chunk from parts of the inputs to parts of the outputs."""

    function: "Callable[..., tuple[Tensor, ...]] | _Messages"  # of a chunk and its inputs
    rows: tuple[Rows, ...]  # of the inputs
    outputs: tuple[tuple[Rows, int], ...]  # rows of each output, and the input that it has the shape of
    chunks: Sequence[Chunk]  # all edges and nodes
    src: Tensor  # sending nodes (E,)

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs, put together from those of the chunks."""
        totals = tuple(torch.zeros_like(inputs[index]) for _, index in self.outputs)
        for chunk in self.chunks:
            parts = [self._part(x.detach(), rows, chunk) for x, rows in zip(inputs, self.rows, strict=True)]
            for total, (rows, _), part in zip(totals, self.outputs, self.function(chunk, *parts), strict=True):
                if rows is Rows.SENDERS:
                    total.index_add_(0, self.src[chunk.edges], part)
                elif rows is Rows.SHARED:
                    total += part
                else:
                    total[chunk.nodes if rows is Rows.RECEIVERS else chunk.edges] = part
        return totals

    def _part(self, x: Tensor, rows: Rows, chunk: Chunk) -> Tensor:
        if rows is Rows.SHARED:
            return x
        if rows is Rows.SENDERS:
            return x.index_select(0, self.src[chunk.edges])
        return x[chunk.nodes if rows is Rows.RECEIVERS else chunk.edges]

    def derivative(self, wanted: Sequence[int], given: Sequence[int]) -> "_Chunked":
        """From the inputs and gradients of the `given` outputs to gradients of the `wanted` inputs."""

        def pull_back(chunk: Chunk, *tensors: Tensor) -> tuple[Tensor, ...]:
            inputs, grads = list(tensors[: len(self.rows)]), tensors[len(self.rows) :]
            further = torch.is_grad_enabled()  # this function is itself being differentiated
            if isinstance(self.function, _Messages) and not further and self.function.has_vjp(chunk, wanted):
                found = self.function.vjp(chunk, inputs, grads[0])
                return tuple(found[index] for index in wanted)
            with torch.enable_grad():
                for index in wanted:
                    if not (further and inputs[index].requires_grad):
                        inputs[index] = inputs[index].detach().requires_grad_()
                results = self.function(chunk, *inputs)
                return torch.autograd.grad(
                    [results[index] for index in given],
                    [inputs[index] for index in wanted],
                    grads,
                    create_graph=further,
                    materialize_grads=True,
                )

        rows = *self.rows, *(self.outputs[index][0] for index in given)
        return _Chunked(pull_back, rows, tuple((self.rows[index], index) for index in wanted), self.chunks, self.src)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Chunked, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.work, ctx.autocast = work, Autocast.current(work.src.device.type)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return work.run(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = [index for index, (node, _) in enumerate(ctx.next_functions) if _is_wanted(node)]
        given = [index for index, grad in enumerate(grads) if grad is not None]
        result: list[Tensor | None] = [None] * (1 + len(ctx.work.rows))
        if given and wanted:
            with ctx.autocast.restored():
                work = ctx.work.derivative(wanted, given)
                found = _Apply.apply(work, *ctx.saved_tensors, *(grads[index] for index in given))
            for index, gradient in zip(wanted, found, strict=True):
                result[1 + index] = gradient
        return tuple(result)


def _is_wanted(node: Any) -> bool:
    """Whether the running backward needs this node: forces need no gradients of weights."""
    if node is None:
        return False
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # raised for a leaf whose gradient is an output
        return True
