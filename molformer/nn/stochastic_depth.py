"""StochasticDepth: a residual branch that is dropped at random, for a whole graph at a time.

Huang et al. 2016 (arXiv 1603.09382): in training y_i = b_g(i) x_i / (1 - p), with b_g = 1 with probability 1 - p for
each graph g and else 0; in evaluation y = x. All nodes of a graph have the same factor, so it is equivariant.
"""

import torch
from torch import Tensor, nn

from molformer.graph.batch import GraphBatch


class StochasticDepth(nn.Module):
    """Drops a branch for some of the graphs of a batch, in training, each with probability `drop`.

    Example:
        >>> StochasticDepth(0.1)
        StochasticDepth(drop=0.1)
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor, graph: GraphBatch) -> Tensor:
        """Drop or scale the output of a branch, (N, M, C) → (N, M, C)."""
        if not self.training or self.drop == 0:
            return x
        stays = torch.rand(graph.num_graphs, device=x.device) >= self.drop  # (B,)
        factor = stays.to(x.dtype) / (1 - self.drop)
        return x * factor.index_select(0, graph.batch)[:, None, None]

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"drop={self.drop:g}"
