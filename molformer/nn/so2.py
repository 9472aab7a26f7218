"""The kernel of the SE(3)-Transformer in the edge's frame, where SO(3) is reduced to SO(2).

With the edge along the polar axis the kernel W^{lk}(x) of Fuchs et al. 2020 (arXiv 2006.10503), equation 8, couples
order m with ±m alone (Passaro & Zitnick 2023, arXiv 2302.03655):
    [y_+m; y_-m] = [[a_m, -b_m], [b_m, a_m]] [x_+m; x_-m],     y_0 = a_0 x_0.
With reflections among the symmetries (E(3), natural parity) the b are absent.

Letters: E edges, M = (lmax+1)² components sorted by |m|, C channels in, D channels out, O outputs, F edge features,
n_m = lmax+1-m degrees that have order m, P = (lmax+1)(lmax+2)/2 pairs (l, |m|), R radial functions.
"""

from abc import ABC, abstractmethod
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.nn.edges import Edges

Group = Literal["SE(3)", "E(3)"]


class EdgeConvolution(nn.Module, ABC):
    """A kernel applied to features that have been turned into the frames of their edges.

    Args:
        lmax: highest degree of input and output.
        in_channels: C.
        out_channels: D.
        edge_features: F.
        group: `SE(3)`, or `E(3)` to be equivariant under reflections too.
        outputs: O, number of features that come out, such as keys and values.
        radial: R, number of weight matrices among which the edge features choose; 1 if they do not.
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

    def forward(self, x: Tensor, edges: Edges) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames: (E, M, C) → O times (E, M, D)."""
        outputs = self.by_order(x, edges.features, *self.tensors())
        return tuple(torch.cat(output, dim=1) for output in outputs)

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """The weights as `by_order` takes them, put together once for all edges."""

    @abstractmethod
    def by_order(self, x: Tensor, features: Tensor, *tensors: Tensor) -> list[list[Tensor]]:
        """Apply the kernel, without copies.

        Args:
            x: features in the frames (E, M, C).
            features: of the edges (E, F).
            tensors: what `tensors` gives.

        Returns:
            O times, for each |m| in turn, (E, r·n_m, D) with r = 1 for m = 0, else 2.
        """

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge."""
        return (self.lmax + 1) ** 2 * max(self.in_channels, self.outputs * self.out_channels)

    def matrices(self, m: int) -> Tensor:
        """The weights for order m, applied from the right.

        Returns:
            (R, n_0·C, O·n_0·D) for m = 0 and for E(3), where +m and -m are rows of their own;
            (R, 2·n_m·C, O·2·n_m·D) for m > 0 of SE(3), which takes [x_+m, x_-m].
        """
        a = self.a[m]
        if m == 0 or self.group == "E(3)":
            return a
        a, b = (weight.unflatten(-1, (self.outputs, -1)) for weight in (a, self.b[m - 1]))
        return torch.cat([torch.cat([a, b], dim=-1), torch.cat([-b, a], dim=-1)], dim=1).flatten(2)

    def orders(self, x: Tensor) -> list[Tensor]:
        """The rows that are mixed with each other, for each |m|: (E, r, n_m, C) with r = 1 for m = 0, else 2."""
        degrees = range(self.lmax + 1, 0, -1)
        sizes = [count if m == 0 else 2 * count for m, count in enumerate(degrees)]
        return [part.unflatten(1, (-1, count)) for part, count in zip(x.split(sizes, dim=1), degrees, strict=True)]

    def rows_of(self, part: Tensor) -> Tensor:
        """Lay out (E, r, n_m, C) as the rows that `matrices` takes: (E, 1, r·n_m·C), for E(3) (E, r, n_m·C)."""
        return part.flatten(2) if self.group == "E(3)" else part.flatten(1).unsqueeze(1)

    def outputs_of(self, parts: list[Tensor]) -> list[list[Tensor]]:
        """Take what the matrices gave, (E, 1 or r, O·…), apart: O lists of (E, r·n_m, D)."""
        split = [part.unflatten(-1, (self.outputs, -1, self.out_channels)).unbind(2) for part in parts]
        return [[rows.flatten(1, 2) for rows in output] for output in zip(*split, strict=True)]

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"lmax={self.lmax}, {self.in_channels} → {self.out_channels}, group={self.group}"


class SeparableConvolution(EdgeConvolution):
    """Edge features scale the inputs per (l, |m|, channel); one map for all edges mixes degrees and channels.

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

    def tensors(self) -> list[Tensor]:
        """Weight and bias of the scales, then a matrix for each |m|."""
        return [self.scale.weight, self.scale.bias, *(self.matrices(m)[0] for m in range(self.lmax + 1))]

    def by_order(self, x: Tensor, features: Tensor, *tensors: Tensor) -> list[list[Tensor]]:
        """Apply the kernel in the frames; see `EdgeConvolution.by_order`."""
        weight, bias, *matrices = tensors
        scales = functional.linear(features, weight, bias).unflatten(-1, (-1, self.in_channels))  # (E, P, C)
        by_order = scales.split(list(range(self.lmax + 1, 0, -1)), dim=1)  # (E, n_m, C) for each m
        scaled = [part * scale[:, None] for part, scale in zip(self.orders(x), by_order, strict=True)]
        return self.outputs_of([self.rows_of(part) @ matrix for part, matrix in zip(scaled, matrices, strict=True)])


class FullConvolution(EdgeConvolution):
    """The paper's kernel: a radial function of its own for every (l, k, J) and every pair of channels.

    All radial functions are combinations of R shared ones, h_e, so that y = Σ_r h_er (W_r x_e) is the product of
    (h_e ⊗ x_e) with one matrix, and the kernel of an edge is never written out.

    Example:
        >>> conv = FullConvolution(lmax=1, in_channels=4, out_channels=4, edge_features=16, group="E(3)", radial=8)
        >>> [tuple(weight.shape) for weight in conv.a]
        [(8, 8, 8), (8, 4, 4)]
    """

    def __init__(
        self,
        lmax: int,
        in_channels: int,
        out_channels: int,
        edge_features: int,
        group: Group,
        outputs: int = 1,
        radial: int = 32,
    ) -> None:
        super().__init__(lmax, in_channels, out_channels, edge_features, group, outputs, radial)
        self.trunk = nn.Sequential(nn.Linear(edge_features, radial), nn.SiLU())

    def tensors(self) -> list[Tensor]:
        """Weight and bias of the trunk, then a matrix for each |m|."""
        linear = self.trunk[0]
        assert isinstance(linear, nn.Linear)
        return [linear.weight, linear.bias, *(self.matrices(m).flatten(0, 1) for m in range(self.lmax + 1))]

    def by_order(self, x: Tensor, features: Tensor, *tensors: Tensor) -> list[list[Tensor]]:
        """Apply the kernel in the frames; see `EdgeConvolution.by_order`."""
        weight, bias, *matrices = tensors
        h = functional.silu(functional.linear(features, weight, bias))  # (E, R)
        parts = []
        for part, matrix in zip(self.orders(x), matrices, strict=True):
            rows = self.rows_of(part)  # (E, r, n·C)
            product = torch.einsum("er,esk->esrk", h, rows).flatten(2)  # (E, r, R·n·C)
            parts.append(product @ matrix)
        return self.outputs_of(parts)

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge, h ⊗ x."""
        return 2 * self.a[0].shape[0] * (self.lmax + 1) * self.in_channels
