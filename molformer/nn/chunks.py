"""A function of the edges, applied to a chunk of them at a time, of which nothing but the inputs is kept.

A chunk is all edges into some consecutive nodes, so that what is summed or normalised over the neighbours of a node is
complete in it, and small enough to stay in the processor's cache. The backward goes through the same chunks again and
computes anew what it needs; it is itself a function of the edges, so that derivatives of every order (energies to
forces to a loss on forces) are taken in the same way and memory never holds more than one chunk a thread.
Letters: N nodes, E edges.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molformer.nn.threads import Mode, in_threads


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


class Chunk(NamedTuple):
    """Edges first_edge:last_edge, all those into the nodes first_node:last_node."""

    first_edge: int
    last_edge: int
    first_node: int
    last_node: int


EdgeFunction = Callable[..., tuple[Tensor, ...]]
"""From the receivers of a chunk's edges, counted from its first node (e,), and its parts of the inputs to outputs."""


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
        chunks.append(Chunk(edge, int(ends[last - 1]), node, last))
        node, edge = last, chunks[-1].last_edge
    return chunks


def by_chunks(
    function: EdgeFunction,
    chunks: Sequence[Chunk],
    src: Tensor,
    dst: Tensor,
    inputs: Sequence[tuple[Tensor, Over]],
    outputs: Sequence[int],
) -> tuple[Tensor, ...]:
    """Apply a function chunk by chunk; its derivatives of every order do likewise.

    Args:
        function: of a chunk.
        chunks: all edges and all nodes, from `whole_receivers`.
        src: sending nodes (E,).
        dst: receiving nodes (E,), sorted.
        inputs: tensors and what their rows are.
        outputs: for each output of the function, the index of the input that it is like in shape and rows.

    Returns:
        The outputs, put together from those of the chunks.
    """
    tensors, rows = zip(*inputs, strict=True)
    return _ByChunks.apply(_Work(function, chunks, src, dst, rows, tuple(outputs)), *tensors)


class _Work(NamedTuple):
    function: EdgeFunction
    chunks: Sequence[Chunk]
    src: Tensor
    dst: Tensor
    rows: tuple[Over, ...]
    outputs: tuple[int, ...]

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """All chunks: on a processor each thread has its share of them, elsewhere they follow each other."""
        threads = min(torch.get_num_threads(), len(self.chunks)) if self.src.device.type == "cpu" else 1
        whole = [self._empty(tensors[index], index) for index in self.outputs]
        totals = [whole] + [
            [
                torch.zeros_like(total) if self._is_sum(index) else total
                for total, index in zip(whole, self.outputs, strict=True)
            ]
            for _ in range(threads - 1)
        ]
        bounds = [len(self.chunks) * thread // threads for thread in range(threads + 1)]

        def share(thread: int) -> None:
            for chunk in self.chunks[bounds[thread] : bounds[thread + 1]]:
                self._run_chunk(chunk, tensors, totals[thread])

        in_threads(share, threads)
        for others in totals[1:]:
            for total, other, index in zip(whole, others, self.outputs, strict=True):
                if self._is_sum(index):
                    total += other
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
        results = self.function(self.dst[edges] - chunk.first_node, *parts)
        for result, index, total in zip(results, self.outputs, totals, strict=True):
            over = self.rows[index]
            if over is Over.SENDERS:
                total.index_add_(0, src, result)
            elif over is Over.ALL:
                total += result
            else:
                total[nodes if over is Over.RECEIVERS else edges] = result

    def _is_sum(self, index: int) -> bool:
        return self.rows[index] in (Over.SENDERS, Over.ALL)

    def _empty(self, like: Tensor, index: int) -> Tensor:
        make = torch.zeros_like if self._is_sum(index) else torch.empty_like
        return make(like, memory_format=torch.contiguous_format)


class _ByChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.work = work
        ctx.mode = Mode.now(work.src.device.type)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return work.run(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        work, tensors = ctx.work, ctx.saved_tensors
        wanted = [index for index, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        given = [index for index, grad in enumerate(grads) if grad is not None]
        result: list[Tensor | None] = [None] * (1 + len(tensors))
        if not given:
            return tuple(result)
        pulled = work._replace(
            function=_pull_back(work.function, len(tensors), wanted, given),
            rows=work.rows + tuple(work.rows[work.outputs[index]] for index in given),
            outputs=tuple(wanted),
        )
        with ctx.mode.precision():
            found = _ByChunks.apply(pulled, *tensors, *(grads[index] for index in given))
        for index, gradient in zip(wanted, found, strict=True):
            result[1 + index] = gradient
        return tuple(result)


def _pull_back(function: EdgeFunction, num_inputs: int, wanted: list[int], given: list[int]) -> EdgeFunction:
    """The function from inputs, and gradients of the `given` outputs, to gradients of the `wanted` inputs."""

    def pull_back(dst: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        further = torch.is_grad_enabled()  # this function will itself be differentiated
        inputs, grads = list(tensors[:num_inputs]), tensors[num_inputs:]
        with torch.enable_grad():
            for index in wanted:
                if not (further and inputs[index].requires_grad):
                    inputs[index] = inputs[index].detach().requires_grad_()
            results = function(dst, *inputs)
            outputs = [results[index] for index in given]
            return torch.autograd.grad(
                outputs, [inputs[index] for index in wanted], grads, create_graph=further, materialize_grads=True
            )

    return pull_back
