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

    higher: Tensor

    def __init__(self, lmax: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = DegreeLinear(lmax, channels, hidden, bias=True)
        self.gate = nn.Linear(channels, lmax * hidden) if lmax else None
        self.reduce = DegreeLinear(lmax, hidden, channels)
        higher = torch.tensor(degree_of_component(lmax)[1:], dtype=torch.long) - 1
        self.register_buffer("higher", higher, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each node's features (N, M, C)."""
        y = self.expand(x)
        scalars = functional.silu(y[:, :1])
        if self.gate is None:
            return self.reduce(scalars)
        gates = torch.sigmoid(self.gate(x[:, 0])).unflatten(-1, (-1, y.shape[-1]))  # (N, lmax, D)
        return self.reduce(torch.cat([scalars, y[:, 1:] * gates.index_select(1, self.higher)], dim=1))
