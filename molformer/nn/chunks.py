"""A function of the edges, applied to a chunk of them at a time, of which little more than the inputs is kept.

A chunk is all edges into some consecutive nodes, so that what is summed or normalised over the neighbours of a node is
complete in it, and small enough to stay in the processor's cache. The backward goes through the same chunks again and
computes anew what it needs; it is itself a function of the edges, so that derivatives of every order (energies to
forces to a loss on forces) are taken in the same way and memory never holds more than one chunk.
Letters: N nodes, E edges.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molformer.nn.precision import Autocast
from molformer.nn.receivers import Run, runs_of


class Over(Enum):
    """What the rows of a tensor stand for, and so what a chunk is given of it and what becomes of its results."""

    SENDERS = "senders"
    """Nodes (N, …): a chunk has a row for the sender of each edge; rows that it gives are added to the senders'."""
    RECEIVERS = "receivers"
    """Nodes (N, …): a chunk has its own nodes' rows."""
    EDGES = "edges"
    """Edges (E, …): a chunk has its own edges' rows."""
    ALL = "all"
    """Weights: a chunk has all of it; what it gives is added up."""


SUMS = (Over.SENDERS, Over.ALL)
"""Where several chunks give parts of the same row."""


class Like(NamedTuple):
    """What an output is: the meaning of its rows, and the input, by its index, whose further dimensions it has."""

    over: Over
    of: int


class Chunk(NamedTuple):
    """Edges first_edge:last_edge, all those into the nodes first_node:last_node, and the runs of these if long."""

    first_edge: int
    last_edge: int
    first_node: int
    last_node: int
    runs: Sequence[Run] | None = None


class Receivers(NamedTuple):
    """Receiver of each edge of a chunk (e,), counted from its first node, and the runs of these.

    `kept` is where the outputs that are kept may be written, if there are any; what is returned elsewhere is copied.
    """

    dst: Tensor
    runs: Sequence[Run] | None
    kept: Sequence[Tensor] = ()


EdgeFunction = Callable[..., tuple[Tensor, ...]]
"""From the `Receivers` of a chunk and its parts of the inputs to outputs."""
EdgeBackward = Callable[..., tuple[Tensor, ...]]
"""From the indices of the wanted inputs, receivers, inputs, gradients of outputs and what is kept to gradients."""


def whole_receivers(degrees: Tensor, most: int) -> list[Chunk]:
    """Cut edges that are sorted by receiver into chunks.

    Args:
        degrees: number of edges into each node (N,).
        most: edges of a chunk; one node with more than these has a chunk of its own.

    Example:
        >>> [(chunk.first_edge, chunk.last_edge) for chunk in whole_receivers(torch.tensor([2, 2, 5, 0]), most=4)]
        [(0, 4), (4, 9), (9, 9)]
    """
    ends = degrees.cumsum(0).cpu()
    num_nodes, chunks, node, edge = len(ends), [], 0, 0
    while node < num_nodes:
        last = int(torch.searchsorted(ends, edge + most, right=True))
        last = min(max(last, node + 1), num_nodes)
        runs = runs_of(degrees[node:last]) if degrees.device.type == "cpu" else None
        chunks.append(Chunk(edge, int(ends[last - 1]), node, last, runs))
        node, edge = last, chunks[-1].last_edge
    return chunks


def by_chunks(
    function: EdgeFunction,
    backward: EdgeBackward | None,
    chunks: Sequence[Chunk],
    src: Tensor,
    dst: Tensor,
    inputs: Sequence[tuple[Tensor, Over]],
    outputs: Sequence[Like],
    kept: Sequence[Like] = (),
) -> tuple[Tensor, ...]:
    """Apply a function chunk by chunk; its derivatives of every order do likewise.

    Args:
        function: of a chunk.
        backward: its derivative, if there is a faster one than autograd's.
        chunks: all edges and all nodes, from `whole_receivers`.
        src: sending nodes (E,).
        dst: receiving nodes (E,), sorted.
        inputs: tensors and what their rows are.
        outputs: of the function.
        kept: further outputs of the function, which are not returned but kept for `backward`.

    Returns:
        The outputs, put together from those of the chunks.
    """
    tensors, rows = zip(*inputs, strict=True)
    work = _Work(function, backward, chunks, src, dst, rows, (*outputs, *kept), len(kept))
    return _ByChunks.apply(work, len(outputs), *tensors)


class _Work(NamedTuple):
    function: EdgeFunction
    backward: EdgeBackward | None
    chunks: Sequence[Chunk]
    src: Tensor
    dst: Tensor
    rows: tuple[Over, ...]
    outputs: tuple[Like, ...]
    num_kept: int

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """All chunks, one after the other; the threads of torch share each."""
        whole = [self._empty(like.over, tensors[like.of]) for like in self.outputs]
        for chunk in self.chunks:
            self._run_chunk(chunk, tensors, whole)
        return tuple(whole)

    def _run_chunk(self, chunk: Chunk, tensors: Sequence[Tensor], totals: Sequence[Tensor]) -> None:
        edges = slice(chunk.first_edge, chunk.last_edge)
        nodes = slice(chunk.first_node, chunk.last_node)
        src = self.src[edges]
        parts = []
        for tensor, over in zip(tensors, self.rows, strict=True):
            if over is Over.SENDERS:
                parts.append(tensor.index_select(0, src))
            elif over is Over.ALL:
                parts.append(tensor)
            else:
                parts.append(tensor[nodes if over is Over.RECEIVERS else edges])
        kept = [total[edges] for total in totals[len(totals) - self.num_kept :]]
        results = self.function(Receivers(self.dst[edges] - chunk.first_node, chunk.runs, kept), *parts)
        for (total, like), result in zip(
            zip(totals, self.outputs, strict=True), results, strict=False
        ):  # no more than is wanted
            if like.over is Over.SENDERS:
                total.index_add_(0, src, result)
            elif like.over is Over.ALL:
                total += result
            elif not any(result is place for place in kept):
                total[nodes if like.over is Over.RECEIVERS else edges] = result

    def _empty(self, over: Over, like: Tensor) -> Tensor:
        num_nodes = self.chunks[-1].last_node
        rows = {Over.ALL: len(like), Over.EDGES: len(self.src), Over.SENDERS: num_nodes, Over.RECEIVERS: num_nodes}
        make = like.new_zeros if over in SUMS else like.new_empty
        return make(rows[over], *like.shape[1:])


class _ByChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, num_outputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        results = work.run(tensors)
        ctx.work, ctx.num_inputs, ctx.num_outputs = work, len(tensors), num_outputs
        ctx.precision = Autocast.now(work.src.device.type)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *results[num_outputs:])
        return results[:num_outputs]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        work, tensors = ctx.work, ctx.saved_tensors
        wanted = [index for index, (node, _) in enumerate(ctx.next_functions) if _is_wanted(node)]
        given = [index for index, grad in enumerate(grads) if grad is not None]
        result: list[Tensor | None] = [None] * (2 + ctx.num_inputs)
        if not given:
            return tuple(result)
        inputs, kept = tensors[: ctx.num_inputs], tensors[ctx.num_inputs :]
        pulled = work._replace(
            function=_pull_back(work, ctx.num_inputs, wanted, given),
            backward=None,
            rows=work.rows
            + tuple(work.outputs[index].over for index in given)
            + tuple(like.over for like in work.outputs[ctx.num_outputs :]),
            outputs=tuple(Like(work.rows[index], index) for index in wanted),
            num_kept=0,
        )
        with ctx.precision.again():
            found = _ByChunks.apply(pulled, len(wanted), *inputs, *(grads[index] for index in given), *kept)
        for index, gradient in zip(wanted, found, strict=True):
            result[2 + index] = gradient
        return tuple(result)


def _is_wanted(node: Any) -> bool:
    """Whether the backward now running goes on to this node: forces need no gradients of weights."""
    if node is None:
        return False
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # it does not say so of a leaf whose gradient was asked for
        return True


def _pull_back(work: _Work, num_inputs: int, wanted: list[int], given: list[int]) -> EdgeFunction:
    """The function from inputs, and gradients of the `given` outputs, to gradients of the `wanted` inputs."""

    def pull_back(receivers: Receivers, *tensors: Tensor) -> tuple[Tensor, ...]:
        further = torch.is_grad_enabled()  # this function will itself be differentiated
        if work.backward is not None and not further and not torch.is_autocast_enabled(receivers.dst.device.type):
            return work.backward(wanted, receivers, *tensors)
        inputs, grads = list(tensors[:num_inputs]), tensors[num_inputs : num_inputs + len(given)]
        with torch.enable_grad():
            for index in wanted:
                if not (further and inputs[index].requires_grad):
                    inputs[index] = inputs[index].detach().requires_grad_()
            results = work.function(receivers, *inputs)
            outputs = [results[index] for index in given]
            return torch.autograd.grad(
                outputs, [inputs[index] for index in wanted], grads, create_graph=further, materialize_grads=True
            )

    return pull_back
