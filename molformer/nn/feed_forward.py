"""GatedFeedForward: the position-wise network of a Transformer block, equivariant.

Degree 0 passes through SiLU; every higher degree is multiplied by a sigmoid of degree 0, one gate a degree and
channel (Weiler et al. 2018, arXiv 1807.02547): y = W_2 act(W_1 x).
Letters: N nodes, M = (lmax+1)² components, C channels, D hidden channels.
"""

import torch
from torch import Tensor, nn

from molformer.nn.linear import DegreeLinear
from molformer.nn.prepared import Prepared, weights_of
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
        expand, expand_bias, gate, gate_bias, reduce = self._prepared(weights_of(self), self.by_component)
        x = x.transpose(0, 1)  # (M, N, C)
        gates = torch.sigmoid(torch.baddbmm(gate_bias, x[0].expand(len(gate), -1, -1), gate))
        y = torch.baddbmm(expand_bias, x, expand) * gates.index_select(0, self.degrees)
        return torch.bmm(y, reduce).transpose(0, 1)

    def by_component(self) -> list[Tensor]:
        """Weights and biases of the expansion, (M, C, D) and (M, 1, D), and of the gates; weights of the reduction.

        The gates have a factor for each degree, (lmax+1, C, D) and (lmax+1, 1, D). That of degree 0 is the degree's own
        expansion, which makes it SiLU(y) = y σ(y).
        """
        assert self.expand.bias is not None
        weights: list[Tensor] = [self.expand.weight[0].T]
        biases: list[Tensor] = [self.expand.bias]
        if self.gate is not None:
            weights.append(self.gate.weight)
            biases.append(self.gate.bias)
        shape = (len(self.reduce.weight), -1)
        gate = torch.cat(weights).unflatten(0, shape).transpose(1, 2)
        gate_bias = torch.cat(biases).unflatten(0, shape)[:, None]
        return [*self.expand.by_component(), gate, gate_bias, *self.reduce.by_component()]
