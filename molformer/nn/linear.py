"""DegreeLinear: the equivariant linear map, with one matrix per degree.

y^l_m = W^l x^l_m, the same for all m; a bias is possible for degree 0 alone.
Letters: N rows, M = (lmax+1)² components, C channels in, D channels out.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.so3.components import degree_of_component


class DegreeLinear(nn.Module):
    """Per-degree linear map (N, M, C) → (N, M, D).

    Args:
        lmax: highest degree of the features.
        in_channels: C.
        out_channels: D.
        bias: add a learnt constant to degree 0.

    Example:
        >>> DegreeLinear(2, 8, 16)(torch.zeros(5, 9, 8)).shape
        torch.Size([5, 9, 16])
    """

    degrees: Tensor

    def __init__(self, lmax: int, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(lmax + 1, in_channels, out_channels) / sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("degrees", torch.tensor(degree_of_component(lmax)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, M, C) to (N, M, D)."""
        weight = self.weight.index_select(0, self.degrees)  # (M, C, D)
        x = x.transpose(0, 1)
        if self.bias is None:
            return torch.bmm(x, weight).transpose(0, 1)
        bias = functional.pad(self.bias[None, None], (0, 0, 0, 0, 0, len(weight) - 1))  # (M, 1, D), zero for l > 0
        return torch.baddbmm(bias, x, weight).transpose(0, 1)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        degrees, inputs, outputs = self.weight.shape
        return f"lmax={degrees - 1}, {inputs} → {outputs}, bias={self.bias is not None}"
