"""GatedFeedForward: the equivariant position-wise network of a Transformer block.

y = W_2 (σ(g) ∘ W_1 x) with one gate g for each degree and channel (Weiler et al. 2018, arXiv 1807.02547). The gates of
l > 0 are a linear map of degree 0; degree 0 gates itself, g = W_1 x, which makes it SiLU.
Letters: N nodes, M = (lmax+1)² components, C channels, D hidden channels.
"""

import torch
from torch import Tensor, nn

from molformer.nn.linear import DegreeLinear
from molformer.so3.components import degree_of_component


class GatedFeedForward(nn.Module):
    """Two per-degree linear maps with a gated nonlinearity between: (N, M, C) → (N, M, C).

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
        y = self.expand(x)  # (N, M, D)
        gates = y[:, 0] if self.gate is None else torch.cat([y[:, 0], self.gate(x[:, 0])], dim=1)
        gates = torch.sigmoid(gates).unflatten(1, (-1, y.shape[2]))  # (N, lmax+1, D)
        return self.reduce(y * gates.index_select(1, self.degrees))
