"""Scalars of many targets at once: the networks of alike heads are one product, their sums over nodes one sum.

A model of a dozen targets would otherwise spend much of a prediction on a dozen heads that do little each.
Letters: T heads, N nodes, B graphs, M components, C channels, K numbers that a head's network gives for each node.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from molformer.graph import GraphBatch
    from molformer.nn.readout import Head


class Stack(NamedTuple):
    """What is computed with, of T heads whose networks are of one size.

    Args:
        weight_1: of the first layers (T·C, C).
        bias_1: (T·C,).
        weight_2: of the second layers (T, C, K).
        bias_2: (T, 1, K).
        scale: (T,).
        references: by element (Z, T).
        size: (T,).
    """

    weight_1: Tensor
    bias_1: Tensor
    weight_2: Tensor
    bias_2: Tensor
    scale: Tensor
    references: Tensor
    size: Tensor

    @classmethod
    def of(cls, heads: Sequence[Sequence[Tensor]]) -> "Stack":
        """Put together what `Head.tensors` gives of each."""
        weight_1, bias_1, weight_2, bias_2, scale, references, size = zip(*heads, strict=True)
        return cls(
            torch.cat(weight_1),
            torch.cat(bias_1),
            torch.stack(weight_2).transpose(1, 2),
            torch.stack(bias_2)[:, None],
            torch.stack(scale),
            torch.stack(references, dim=1),
            torch.stack(size),
        )

    def read(self, x: Tensor) -> Tensor:
        """What the networks give for degree 0 of features (N, M, C): (T, N, K), float64."""
        hidden = functional.silu(functional.linear(x[:, 0], self.weight_1, self.bias_1))
        by_head = hidden.unflatten(1, (len(self.scale), -1)).transpose(0, 1)  # (T, N, C)
        return torch.baddbmm(self.bias_2, by_head, self.weight_2).double()


def intensive(stack: Stack, x: Tensor, graph: "GraphBatch") -> Tensor:
    """Values (B, T) of intensive targets: a mean of references and, weighted if K is 2, of what is read from nodes."""
    y = stack.read(x).transpose(0, 1)  # (N, T, K)
    reference = graph.mean_over_graphs(stack.references.index_select(0, graph.numbers))
    scores = y[..., 1] if y.shape[-1] > 1 else None
    return reference + stack.scale * pooled(y[..., 0], scores, graph)


def extensive(stack: Stack, x: Tensor, graph: "GraphBatch") -> Tensor:
    """Values (B, T) of extensive targets: a sum of references and of what is read from nodes."""
    parts = stack.scale / stack.size * stack.read(x)[..., 0].T
    return graph.sum_over_graphs(stack.references.index_select(0, graph.numbers) + parts)


def pooled(values: Tensor, scores: Tensor | None, graph: "GraphBatch") -> Tensor:
    """Mean of node values (N, K) in each graph, weighted by the softmax of scores (N, 1) or (N, K): (B, K)."""
    if scores is None:
        return graph.mean_over_graphs(values)
    weight = node_weights(scores)
    return graph.sum_over_graphs(weight * values) / graph.sum_over_graphs(weight)


def node_weights(scores: Tensor) -> Tensor:
    """Unnormalised weights of nodes; bounded, so that no maximum need be subtracted."""
    return torch.exp(5 * torch.tanh(scores / 5))


def alike(heads: Mapping[str, "Head"]) -> list[list[str]]:
    """Names of heads that can be stacked, and those of others alone, in their order."""
    groups: dict[object, list[str]] = {}
    for name, head in heads.items():
        kind = (head.stacked, head.net_outputs) if head.stacked else name
        groups.setdefault(kind, []).append(name)
    return list(groups.values())
