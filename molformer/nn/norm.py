"""EquivariantRMSNorm: features divided by their root mean square over channels and degrees.

y_lmc = g_lc x_lmc / sqrt(ε + mean_l mean_mc x²), every degree with the same share in the mean. It is invariant to
rotation because Σ_m x² is, and smooth everywhere because nothing but the square is taken.
Letters: N rows, M = (lmax+1)² components, C channels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from molformer.nn.prepared import Prepared
from molformer.so3 import degree_of_component


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
        self.register_buffer("share", 1.0 / ((lmax + 1) * (2 * degrees + 1)), persistent=False)
        self._prepared = Prepared()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features (N, M, C)."""
        gain, share = self._prepared([self.gain], self.per_component)
        rows = x.flatten(1)
        share = share.to(x.dtype)
        if torch.compiler.is_compiling():  # it makes passes of its own
            return _normalised(rows, gain, share, self.eps).view_as(x)
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return _Normalise.apply(rows, gain, share, self.eps).view_as(x)
        return (rows * torch.mm(rows * rows, share).add_(self.eps).rsqrt_()).mul_(gain).view(x.shape)

    def per_component(self) -> list[Tensor]:
        """Gain (M·C,) and share (M·C, 1) of each number of a row."""
        gain = self.gain.index_select(0, self.degrees)
        share = (self.share[:, None].to(gain) / gain.shape[1]).expand_as(gain).reshape(-1, 1)
        return [gain.flatten(), share]


def _normalised(x: Tensor, gain: Tensor, share: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x) @ share + eps) * gain


class _Normalise(torch.autograd.Function):
    """y = g x r with r = 1/√(ε + Σ w x²), x (N, M·C); the derivative is written out, in few passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, share: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, gain, share)
        ctx.eps = eps
        return _normalised(x, gain, share, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, share = ctx.saved_tensors
        root = torch.rsqrt((x * x) @ share + ctx.eps)
        # ∂x = r (g ∂y) - r³ w x Σ x g ∂y,   ∂g = Σ_n r x ∂y
        product = x * grad
        along = (product @ gain)[:, None]
        grad_x = torch.addcmul(grad * gain, x * share.T, along * root.square(), value=-1) * root
        return grad_x, root.T.squeeze(0) @ product, None, None
