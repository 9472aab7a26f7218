"""EquivariantRMSNorm: features divided by their root mean square over channels and degrees.

y_lmc = g_lc x_lmc / sqrt(ε + mean_l mean_mc x²), every degree with the same weight in the mean. It is invariant to
rotation because Σ_m x² is, and smooth everywhere because nothing but the square is taken.
Letters: N rows, M = (lmax+1)² components, C channels.
"""

import torch
from torch import Tensor, nn

from molformer.so3.components import degree_of_component


class EquivariantRMSNorm(nn.Module):
    """RMS normalisation of features (N, M, C) with a learnt gain for each degree and channel.

    Args:
        lmax: highest degree.
        channels: C.
        eps: added to the mean square, in the square of the features' unit.

    Example:
        >>> EquivariantRMSNorm(1, 4)(torch.full((2, 4, 4), 3.0))[0, 0, 0]
        tensor(1.0000, grad_fn=<SelectBackward0>)
    """

    degrees: Tensor
    share: Tensor

    def __init__(self, lmax: int, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        degrees = torch.tensor(degree_of_component(lmax))
        self.gain = nn.Parameter(torch.ones(lmax + 1, channels))
        self.eps = eps
        self.register_buffer("degrees", degrees, persistent=False)
        share = 1.0 / ((lmax + 1) * (2 * degrees + 1) * channels)  # of each of the M·C numbers in the mean
        self.register_buffer("share", share.repeat_interleave(channels)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features (N, M, C)."""
        rows = x.flatten(1)  # (N, M·C)
        mean_square = rows.square() @ self.share.to(x.dtype)  # (N, 1)
        gain = self.gain.index_select(0, self.degrees)
        return (rows * torch.rsqrt(mean_square + self.eps)).view_as(x) * gain
