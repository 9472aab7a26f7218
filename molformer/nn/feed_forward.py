"""GatedFeedForward: the position-wise network of a Transformer block, equivariant.

Degree 0 passes through SiLU; every higher degree is multiplied by a sigmoid of degree 0, one gate a degree and
channel (Weiler et al. 2018, arXiv 1807.02547): y = W_2 act(W_1 x).
Letters: N nodes, M = (lmax+1)² components, C channels, D hidden channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.nn.linear import DegreeLinear
from molformer.so3 import degree_of_component


class GatedFeedForward(nn.Module):
    """Two per-degree linear maps with gates in between: (N, M, C) → (N, M, C).

    Args:
        lmax: highest degree.
        channels: C.
        hidden: D.

    Example:
        >>> GatedFeedForward(2, 8, 16)(torch.zeros(3, 9, 8)).shape
        torch.Size([3, 9, 8])
    """

    degrees: Tensor

    def __init__(self, lmax: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = DegreeLinear(lmax, channels, hidden, bias=True)
        self.gate = nn.Linear(channels, lmax * hidden) if lmax else None
        self.reduce = DegreeLinear(lmax, hidden, channels)
        self.register_buffer("degrees", torch.tensor(degree_of_component(lmax)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each node's features (N, M, C)."""
        y = self.expand(x)
        gates = self.gates(x[:, 0]).transpose(0, 1).index_select(0, self.degrees).transpose(0, 1)  # (N, M, D)
        return self.reduce(y * gates)

    def gates(self, x: Tensor) -> Tensor:
        """Factor (N, lmax+1, D) of each degree from degree 0 (N, C); that of degree 0 makes it SiLU(y) = y σ(y)."""
        weight, bias = self.expand.weight[0].T, self.expand.bias
        assert bias is not None
        if self.gate is not None:
            weight, bias = torch.cat([weight, self.gate.weight]), torch.cat([bias, self.gate.bias])
        return torch.sigmoid(functional.linear(x, weight, bias)).unflatten(-1, (-1, self.reduce.weight.shape[1]))
