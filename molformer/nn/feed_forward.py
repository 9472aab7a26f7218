"""GatedFeedForward: the position-wise network of a Transformer block, equivariant.

Degree 0 passes through SiLU; every higher degree is multiplied by a sigmoid of degree 0, one gate a degree and
channel (Weiler et al. 2018, arXiv 1807.02547): y = W_2 act(W_1 x).
Letters: N nodes, M = (lmax+1)² components, C channels, D hidden channels.
"""

import torch
from torch import Tensor, nn

from molformer.nn.linear import DegreeLinear
from molformer.nn.prepared import Prepared
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
        self._prepared = Prepared()

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each node's features (N, M, C)."""
        y = self.expand.by_component(x.transpose(0, 1))  # (M, N, D)
        return self.reduce.by_component(y * self.gates(x[:, 0]).index_select(0, self.degrees)).transpose(0, 1)

    def gates(self, x: Tensor) -> Tensor:
        """Factor (lmax+1, N, D) of each degree from degree 0 (N, C); that of degree 0 makes it SiLU(y) = y σ(y)."""
        assert self.expand.bias is not None
        weights: list[Tensor] = [self.expand.weight]
        biases: list[Tensor] = [self.expand.bias]
        if self.gate is not None:
            weights.append(self.gate.weight)
            biases.append(self.gate.bias)

        def joined() -> list[Tensor]:  # the gate of degree 0 is its own expansion
            weight, bias = torch.cat([weights[0][0].T, *weights[1:]]), torch.cat(biases)
            shape = (len(self.reduce.weight), -1)
            return [weight.unflatten(0, shape).transpose(1, 2), bias.unflatten(0, shape)[:, None]]

        weight, bias = self._prepared([*weights, *biases], joined)  # (lmax+1, C, D) and (lmax+1, 1, D)
        return torch.sigmoid(torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight))
