"""The kernel of the SE(3)-Transformer in the edge's frame, where SO(3) is reduced to SO(2).

With the edge along the polar axis the kernel W^{lk}(x) of Fuchs et al. 2020 (arXiv 2006.10503), equation 8, couples
order m with ±m alone (Passaro & Zitnick 2023, arXiv 2302.03655):
    [y_+m; y_-m] = [[a_m, -b_m], [b_m, a_m]] [x_+m; x_-m],     y_0 = a_0 x_0.
With reflections among the symmetries (E(3), natural parity) the b are absent.

Letters: E edges, M = (lmax+1)² components sorted by |m|, C channels in, D channels out, O outputs, F edge features,
n_m = lmax+1-m degrees that have order m, P = (lmax+1)(lmax+2)/2 pairs (l, |m|), R radial functions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.nn.columns import join_columns, split_columns
from molformer.nn.edges import Edges
from molformer.nn.radial_product import radial_product

Group = Literal["SE(3)", "E(3)"]
PullBack = Callable[..., tuple[Tensor, ...]]
"""From gradients of a function's outputs to those of its arguments."""


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
        orders = [(m, lmax + 1 - m) for m in range(lmax + 1)]
        self.layout = [(m, size * (2 if m else 1)) for m, size in orders]
        """|m| and number of components of each row."""
        if group == "E(3)":
            self.layout = [(m, size) for m, size in orders for _ in range(2 if m else 1)]
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
        return self.apply_to(x, edges.features, *self.tensors())

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """The weights as `apply_to` takes them, put together once for all edges; a matrix for each |m| comes last."""

    @abstractmethod
    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames.

        Args:
            x: features (E, M, C).
            features: of the edges (E, F).
            tensors: what `tensors` gives.

        Returns:
            O times (E, M, D).
        """

    @abstractmethod
    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to`, unless its outputs are given, and the function from their gradients to the arguments'."""

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge."""
        return (self.lmax + 1) ** 2 * max(self.in_channels, self.outputs * self.out_channels)

    @property
    def min_chunk(self) -> int:
        """Edges that are worked on together at least: products with fewer rows are slow."""
        return 256

    def matrices(self) -> list[Tensor]:
        """The weights applied from the right, for m = 0 and each output, then m = 1 and each output, and so on.

        Returns:
            (R, n_0·C, n_0·D) for m = 0 and for E(3), where +m and -m are rows of their own;
            (R, 2·n_m·C, 2·n_m·D) for m > 0 of SE(3), which takes [x_+m, x_-m].
        """
        matrices: list[Tensor] = []
        for m, a in enumerate(self.a):
            if m > 0 and self.group == "SE(3)":
                b = self.b[m - 1]
                for a_part, b_part in zip(a.chunk(self.outputs, dim=-1), b.chunk(self.outputs, dim=-1), strict=True):
                    rows = [torch.cat([a_part, b_part], dim=-1), torch.cat([-b_part, a_part], dim=-1)]
                    matrices.append(torch.cat(rows, dim=1))
            else:
                matrices += a.chunk(self.outputs, dim=-1)
        return matrices

    def rows(self, x: Tensor) -> Sequence[Tensor]:
        """The rows that the matrices take, one after another: views (E, r·n_m·C), of E(3) (E, n_m·C)."""
        channels = x.shape[-1]
        return split_columns(x.flatten(1), [size * channels for _, size in self.layout])

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
        """Weight and bias of the scales, then `matrices`."""
        return [self.scale.weight, self.scale.bias, *(matrix[0] for matrix in self.matrices())]

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`."""
        weight, bias, *matrices = tensors
        scales = functional.linear(features, weight, bias)  # (E, P·C)
        scaled = [part * scale for part, scale in zip(self.orders(x), self.scale_parts(scales), strict=True)]
        return self.mix(join_columns([part.flatten(1) for part in scaled]).view_as(x), matrices)

    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to` and its derivative, written out: y = (s ∘ x) W with scales s = U f + c of the edge features."""
        weight, bias, *matrices = tensors
        scales = functional.linear(features, weight, bias)
        scale_parts = self.scale_parts(scales)
        scaled = torch.empty_like(x)
        for out, part, scale in zip(self.orders(scaled), self.orders(x), scale_parts, strict=True):
            torch.mul(part, scale, out=out)

        def pull_back(*grads: Tensor) -> tuple[Tensor, ...]:
            grad_x, grad_scales = torch.empty_like(x), torch.empty_like(scales)
            grad_matrices: list[Tensor | None] = [None] * len(matrices)
            for index, grad in enumerate(grads):
                rows = zip(self.layout, *map(self.rows, (scaled, grad_x, grad)), strict=True)
                for (m, _), row, out, given in rows:
                    which = m * self.outputs + index
                    torch.addmm(out, given, matrices[which].T, beta=index > 0, out=out)
                    so_far = grad_matrices[which]
                    grad_matrices[which] = row.T @ given if so_far is None else so_far.addmm_(row.T, given)
            parts = zip(*map(self.orders, (x, grad_x)), scale_parts, self.scale_parts(grad_scales), strict=True)
            for part, grad, scale, grad_scale in parts:  # grad is that of the scaled part until it is scaled too
                torch.sum(part * grad, dim=1, keepdim=True, out=grad_scale)
                grad.mul_(scale)
            return grad_x, grad_scales @ weight, grad_scales.T @ features, grad_scales.sum(0), *grad_matrices

        return outputs or self.mix(scaled, matrices), pull_back

    def orders(self, x: Tensor) -> list[Tensor]:
        """Components of each |m|: views (E, r, n_m·C) with r = 1 for m = 0, else 2."""
        sizes = [(2 if m else 1, (self.lmax + 1 - m) * x.shape[-1]) for m in range(self.lmax + 1)]
        parts = split_columns(x.flatten(1), [rows * columns for rows, columns in sizes])
        return [part.unflatten(1, size) for part, size in zip(parts, sizes, strict=True)]

    def scale_parts(self, scales: Tensor) -> Sequence[Tensor]:
        """Scales (E, P·C) for each |m|: views (E, 1, n_m·C)."""
        sizes = [(self.lmax + 1 - m) * self.in_channels for m in range(self.lmax + 1)]
        return [part.unsqueeze(1) for part in split_columns(scales, sizes)]

    def mix(self, x: Tensor, matrices: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Apply the `matrices`: (E, M, C) → O times (E, M, D)."""
        rows, shape = self.rows(x), (*x.shape[:2], self.out_channels)
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            mixed: list[list[Tensor]] = [[] for _ in range(self.outputs)]
            for (m, _), row in zip(self.layout, rows, strict=True):
                for index, output in enumerate(mixed):
                    output.append(row @ matrices[m * self.outputs + index])
            return tuple(join_columns(output).view(shape) for output in mixed)
        outputs = tuple(x.new_empty(*x.shape[:2], self.out_channels) for _ in range(self.outputs))
        for index, output in enumerate(outputs):
            for (m, _), row, out in zip(self.layout, rows, self.rows(output), strict=True):
                torch.mm(row, matrices[m * self.outputs + index], out=out)
        return outputs


class FullConvolution(EdgeConvolution):
    """The paper's kernel: a radial function of its own for every (l, k, J) and every pair of channels.

    All radial functions are combinations of R shared ones, h_e, so that y = Σ_r h_er (W_r x_e) is the product of
    (h_e ⊗ x_e) with one matrix, and the kernel of an edge is never written out. For m > 0 of SE(3), three products
    do for the four of the block matrix:
        y_+ = a (x_+ + x_-) - (a+b) x_-,     y_- = a (x_+ + x_-) + (b-a) x_+.

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
        """Weight and bias of the trunk, then (R·n_m·C, O·n_m·D) of each |m|: a, and for m > 0 of SE(3) a+b and b-a."""
        linear = self.trunk[0]
        assert isinstance(linear, nn.Linear)
        matrices = [a.flatten(0, 1) for a in self.a]
        for a, b in zip(matrices[1:], self.b, strict=False):
            matrices += [a + b.flatten(0, 1), b.flatten(0, 1) - a]
        return [linear.weight, linear.bias, *matrices]

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`."""
        return self._apply_to(x, features, tensors, compute=True)

    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to`, unless its outputs are given, and the function from their gradients to the arguments'."""
        arguments = [tensor.detach().requires_grad_() for tensor in (x, features, *tensors)]
        with torch.enable_grad():
            anew = self._apply_to(arguments[0], arguments[1], arguments[2:], compute=not outputs)
        found = outputs or [output.detach() for output in anew]
        return found, lambda *grads: torch.autograd.grad(anew, arguments, grads)

    def _apply_to(self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], compute: bool) -> tuple[Tensor, ...]:
        weight, bias, *matrices = tensors
        h = functional.silu(functional.linear(features, weight, bias))  # (E, R)
        rows = iter(split_columns(x.flatten(1), [size * self.in_channels for size in self._sizes()]))

        def product(row: Tensor, matrix: Tensor) -> Tensor:
            return radial_product(h, row, matrix, compute)

        mixed = [product(next(rows), matrices[0])]
        for m in range(1, self.lmax + 1):
            plus, minus, a = next(rows), next(rows), matrices[m]
            if self.group == "E(3)":
                mixed += [product(plus, a), product(minus, a)]
            else:
                a_plus_b, b_minus_a = matrices[self.lmax + 2 * m - 1 : self.lmax + 2 * m + 1]
                common = product(plus + minus, a)
                mixed += [common - product(minus, a_plus_b), common + product(plus, b_minus_a)]
        by_output = zip(*(split_columns(part, [part.shape[1] // self.outputs] * self.outputs) for part in mixed), strict=True)
        return tuple(join_columns(output).unflatten(1, (-1, self.out_channels)) for output in by_output)

    def _sizes(self) -> list[int]:
        """n_m for m = 0, +1, -1, +2, …"""
        return [self.lmax + 1 - m for m in range(self.lmax + 1) for _ in range(2 if m else 1)]

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge, h ⊗ x."""
        return self.a[0].shape[0] * (self.lmax + 1) * self.in_channels

    @property
    def min_chunk(self) -> int:
        """The gradient of the weights is summed up once a chunk, and is large here."""
        return 512
