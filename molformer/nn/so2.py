"""The kernel of the SE(3)-Transformer in the edge's frame, where SO(3) is reduced to SO(2).

With the edge along the polar axis the kernel W^{lk}(x) of Fuchs et al. 2020 (arXiv 2006.10503), equation 8, couples
order m with ±m alone (Passaro & Zitnick 2023, arXiv 2302.03655):
    [y_+m; y_-m] = [[a_m, -b_m], [b_m, a_m]] [x_+m; x_-m],     y_0 = a_0 x_0.
With reflections among the symmetries (E(3), natural parity) the b are absent.

Letters: E edges, M = (lmax+1)² components sorted by |m|, C channels in, D channels out, O outputs, F edge features,
n_m = lmax+1-m degrees that have order m, P = (lmax+1)(lmax+2)/2 pairs (l, |m|), R radial functions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

Group = Literal["SE(3)", "E(3)"]


class EdgeConvolution(nn.Module, ABC):
    """A kernel applied to features in the frames of their edges.

    Args:
        lmax: highest degree of input and output.
        in_channels: C.
        out_channels: D.
        edge_features: F.
        group: `SE(3)`, or `E(3)` to be equivariant under reflections too.
        outputs: O, number of output features, such as keys and values.
        radial: R, number of weight matrices, combined by radial functions; 1 if these scale the inputs instead.
    """

    def __init__(
        self,
        lmax: int,
        in_channels: int,
        out_channels: int,
        edge_features: int,
        group: Group,
        outputs: int = 1,
        radial: int = 1,
    ) -> None:
        super().__init__()
        self.lmax = lmax
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_features = edge_features
        self.group = group
        self.outputs = outputs
        self.a = nn.ParameterList()
        self.b = nn.ParameterList()
        for m in range(lmax + 1):
            rows, columns = (lmax + 1 - m) * in_channels, outputs * (lmax + 1 - m) * out_channels
            mixes = m > 0 and group == "SE(3)"
            scale = 1 / sqrt(radial * rows * (2 if mixes else 1))
            self.a.append(nn.Parameter(torch.randn(radial, rows, columns) * scale))
            if mixes:
                self.b.append(nn.Parameter(torch.randn(radial, rows, columns) * scale))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Apply the kernel: features in the edge frames (E, M, C) and those of the edges (E, F) to (E, M, O·D)."""
        return self.convolve(x, self.radial(features), self.matrices())

    @abstractmethod
    def radial(self, features: Tensor) -> Tensor:
        """Radial functions of the edges, from their features (E, F)."""

    @abstractmethod
    def matrices(self) -> list[Tensor]:
        """Matrices shared by all edges, as `convolve` takes them."""

    @abstractmethod
    def convolve(self, x: Tensor, radial: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """Apply the kernel, without its parameters: features in the edge frames (E, M, C), and what `radial` and
        `matrices` give, to the outputs side by side (E, M, O·D).
        """

    def orders(self, x: Tensor) -> list[Tensor]:
        """Components of each |m|, (E, signs, n_m·C) of x (E, M, C): +m and -m for m > 0."""
        shapes = [(2 if m else 1, self.lmax + 1 - m) for m in range(self.lmax + 1)]  # signs, n_m
        parts = x.split([signs * degrees for signs, degrees in shapes], dim=1)
        width = x.shape[2]
        return [part.reshape(len(x), signs, n * width) for part, (signs, n) in zip(parts, shapes, strict=True)]

    def join_orders(self, parts: Sequence[Tensor]) -> Tensor:
        """Outputs of each |m|, (E, signs·n_m·O·D) in any number of parts, side by side: (E, M, O·D)."""
        shape = len(parts[0]), (self.lmax + 1) ** 2, self.outputs * self.out_channels
        return torch.cat(list(parts), dim=1).view(shape)

    def outputs_last(self, weights: nn.ParameterList, first: int = 0) -> list[Tensor]:
        """Weights (R, n_m·C, O·n_m·D) of m = first, … with the outputs of a degree side by side (R, n_m·C, n_m·O·D)."""
        if self.outputs == 1:
            return list(weights)
        shapes = [(self.outputs, self.lmax + 1 - m, self.out_channels) for m in range(first, first + len(weights))]
        return [w.unflatten(2, shape).transpose(2, 3).flatten(2) for w, shape in zip(weights, shapes, strict=True)]

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"lmax={self.lmax}, {self.in_channels} → {self.out_channels}, group={self.group}"


class SeparableConvolution(EdgeConvolution):
    """Edge features scale the inputs per (l, |m|, channel); a map shared by all edges mixes degrees and channels.

    Example:
        >>> SeparableConvolution(lmax=2, in_channels=8, out_channels=4, edge_features=16, group="SE(3)")
        SeparableConvolution(
          lmax=2, 8 → 4, group=SE(3)
          (a): ParameterList(
        ...
    """

    def __init__(
        self, lmax: int, in_channels: int, out_channels: int, edge_features: int, group: Group, outputs: int = 1
    ) -> None:
        super().__init__(lmax, in_channels, out_channels, edge_features, group, outputs)
        pairs = (lmax + 1) * (lmax + 2) // 2
        self.scale = nn.Linear(edge_features, pairs * in_channels)
        nn.init.normal_(self.scale.weight, std=1 / sqrt(edge_features))
        nn.init.ones_(self.scale.bias)

    def radial(self, features: Tensor) -> Tensor:
        """Scales (E, P·C)."""
        return self.scale(features)

    def matrices(self) -> list[Tensor]:
        """For each |m|, applied from the right: a_0; [[a, b], [-b, a]]; with E(3) a, for either sign.

        Returns:
            (rows·C, rows·O·D) with rows = n_m, or 2·n_m for m > 0 of SE(3).
        """
        matrices = [a[0] for a in self.outputs_last(self.a)]
        for m, (b,) in enumerate(self.outputs_last(self.b, first=1), start=1):
            a = matrices[m]
            matrices[m] = torch.cat([torch.cat([a, b], dim=1), torch.cat([-b, a], dim=1)])
        return matrices

    def convolve(self, x: Tensor, radial: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """See `EdgeConvolution.convolve`."""
        scaled = [part * scale for part, scale in zip(self.orders(x), self.scales(radial), strict=True)]
        return self.mix(scaled, matrices)

    def mix(self, orders: Sequence[Tensor], matrices: Sequence[Tensor]) -> Tensor:
        """The map shared by all edges, of scaled features for each |m| (E, signs, n_m·C): (E, M, O·D)."""
        by_sign = self.group == "E(3)"  # else +m and -m of an edge are one row
        mixed = [
            ((part if by_sign else part.flatten(1)) @ matrix).flatten(1)
            for part, matrix in zip(orders, matrices, strict=True)
        ]
        return self.join_orders(mixed)

    def scales(self, radial: Tensor) -> list[Tensor]:
        """Scales (E, P·C) for each |m|: views (E, 1, n_m·C)."""
        widths = [(self.lmax + 1 - m) * self.in_channels for m in range(self.lmax + 1)]
        return [part[:, None] for part in radial.split(widths, dim=1)]
