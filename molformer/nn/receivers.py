"""Turning between the receivers of edges and the edges' frames, all edges into a node by one product.

The frames D_e of the d edges into node i, one below the other, are a matrix D_i (d·M, M): D_i q_i is the feature of the
node in each of these frames, and D_iᵀ y the sum of what its edges bring, turned back. So no feature is copied for each
edge, and none is added up afterwards. Nodes that follow each other and receive equally many edges share a batched
product; the three functions here are each other's derivatives, to every order.

Letters: N nodes, E edges sorted by receiver, M = (lmax+1)² components, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

FEWEST_NODES = 8
"""Nodes that a run has in the mean, for products of runs to be faster than those of single edges."""

FEWEST_ALL = 64
"""Nodes of all runs together, below which sorting them takes longer than is saved."""


class Run(NamedTuple):
    """So many nodes that follow each other, each with so many edges."""

    nodes: int
    edges: int


def degrees(dst: Tensor, num_nodes: int) -> Tensor:
    """Number of edges into each node (N,), of the receivers of edges (E,)."""
    return torch.bincount(dst, minlength=num_nodes)


def by_runs(dst: Tensor, num_nodes: int) -> bool:
    """Whether runs may be of use: on a processor, and for more than a molecule or two."""
    return dst.device.type == "cpu" and num_nodes >= FEWEST_ALL and not torch.compiler.is_compiling()


def runs_of(degrees: Tensor) -> list[Run] | None:
    """Runs of nodes with equally many edges, None if they are too short to be of use.

    Args:
        degrees: number of edges into each node (N,).

    Example:
        >>> runs_of(torch.tensor([2] * 20 + [3] * 10))
        [Run(nodes=20, edges=2), Run(nodes=10, edges=3)]
    """
    edges, nodes = torch.unique_consecutive(degrees, return_counts=True)
    if len(edges) * FEWEST_NODES > len(degrees):
        return None
    return [Run(*run) for run in zip(nodes.tolist(), edges.tolist(), strict=True)]


def order_for_runs(dst: Tensor, num_nodes: int) -> Tensor | None:
    """Nodes in an order that makes long runs (N,), by their number of edges; None if there is no need or no use."""
    if not by_runs(dst, num_nodes):
        return None
    each = degrees(dst, num_nodes)
    if runs_of(each) is not None:
        return None
    order = torch.argsort(each, stable=True)
    return None if runs_of(each[order]) is None else order


def to_edges(frames: Tensor, x: Tensor, runs: Sequence[Run]) -> Tensor:
    """Features of the receivers (N, M, C) in the frames (E, M, M) of their edges: (E, M, C)."""
    return _bilinear(_TO_EDGES, frames, x, runs)


def to_receivers(frames: Tensor, y: Tensor, runs: Sequence[Run]) -> Tensor:
    """Sums over the edges into each node of y (E, M, C), turned back from the frames (E, M, M): (N, M, C)."""
    return _bilinear(_TO_RECEIVERS, frames, y, runs)


def outer(y: Tensor, x: Tensor, runs: Sequence[Run]) -> Tensor:
    """y_e x_iᵀ (E, M, M) of y (E, M, C) at the edges and x (N, M, C) at their receivers."""
    return _bilinear(_OUTER, y, x, runs)


def _to_edges(frames: Tensor, x: Tensor, runs: Sequence[Run]) -> Tensor:
    y = x.new_empty(len(frames), frames.shape[1], x.shape[2])
    for (turns, out), part in _by_run(runs, [frames, y], x):
        torch.bmm(turns, part, out=out)
    return y


def _to_receivers(frames: Tensor, y: Tensor, runs: Sequence[Run]) -> Tensor:
    x = y.new_zeros(sum(run.nodes for run in runs), frames.shape[2], y.shape[2])
    for (turns, part), out in _by_run(runs, [frames, y], x):
        torch.bmm(turns.transpose(1, 2), part, out=out)
    return x


def _outer(y: Tensor, x: Tensor, runs: Sequence[Run]) -> Tensor:
    product = y.new_empty(len(y), y.shape[1], x.shape[1])
    for (part, out), at_node in _by_run(runs, [y, product], x):
        torch.bmm(part, at_node.transpose(1, 2), out=out)
    return product


def _by_run(runs: Sequence[Run], of_edges: Sequence[Tensor], x: Tensor) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Of each run that has edges: views (n, d·M, …) of what edges have and (n, M, C) of what nodes have."""
    of_edges = [tensor.contiguous() for tensor in of_edges]
    node = edge = 0
    for nodes, edges in runs:
        if edges:
            parts = [tensor.narrow(0, edge, nodes * edges) for tensor in of_edges]
            shapes = [(nodes, edges * tensor.shape[1], tensor.shape[2]) for tensor in of_edges]
            yield [part.view(shape) for part, shape in zip(parts, shapes, strict=True)], x.narrow(0, node, nodes)
        node, edge = node + nodes, edge + nodes * edges


_Product = Callable[[Tensor, Tensor, Sequence[Run]], Tensor]


class _Bilinear(NamedTuple):
    """A product of two tensors, and the gradients of both from that of the product and the other one."""

    product: _Product
    of_first: _Product
    of_second: _Product


_TO_EDGES = _Bilinear(
    _to_edges,
    of_first=lambda grad, x, runs: outer(grad, x, runs),
    of_second=lambda grad, frames, runs: to_receivers(frames, grad, runs),
)
_TO_RECEIVERS = _Bilinear(
    _to_receivers,
    of_first=lambda grad, y, runs: outer(y, grad, runs),
    of_second=lambda grad, frames, runs: to_edges(frames, grad, runs),
)
_OUTER = _Bilinear(
    _outer,
    of_first=lambda grad, x, runs: to_edges(grad, x, runs),
    of_second=lambda grad, y, runs: to_receivers(grad, y, runs),
)


def _bilinear(kind: _Bilinear, first: Tensor, second: Tensor, runs: Sequence[Run]) -> Tensor:
    if torch.is_grad_enabled():
        return _Differentiable.apply(kind, first, second, runs)
    return kind.product(first, second, runs)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: _Bilinear, first: Tensor, second: Tensor, runs: Sequence[Run]) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.kind, ctx.runs = kind, runs
        return kind.product(first, second, runs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, second = ctx.saved_tensors
        _, first_wanted, second_wanted, _ = ctx.needs_input_grad
        return (
            None,
            ctx.kind.of_first(grad, second, ctx.runs) if first_wanted else None,
            ctx.kind.of_second(grad, first, ctx.runs) if second_wanted else None,
            None,
        )
