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

from molformer.nn.edges import Edges

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

    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to`, unless its outputs are given, and the function from gradients of its outputs to those of its arguments."""
        arguments = [tensor.detach().requires_grad_() for tensor in (x, features, *tensors)]
        with torch.enable_grad():
            anew = self.apply_to(*arguments)
        return [output.detach() for output in anew], lambda *grads: torch.autograd.grad(anew, arguments, grads)

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

    def rows(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """The rows that the matrices take, as |m| and a view (E, r·n_m·C), or (E, n_m·C) twice for E(3)."""
        apart = self.group == "E(3)"
        orders = enumerate(self.orders(x))
        return [(m, row.flatten(1)) for m, part in orders for row in (part.unbind(1) if apart else [part])]

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

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`."""
        weight, bias, *matrices = tensors
        scales = self.by_order(functional.linear(features, weight, bias))
        scaled = [part * scale for part, scale in zip(self.orders(x), scales, strict=True)]
        return self.mix(torch.cat([part.flatten(1, 2) for part in scaled], dim=1), matrices)

    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to` and its derivative, written out: y = (s ∘ x) W with scales s = U f + c of the edge features."""
        weight, bias, *matrices = tensors
        scales = functional.linear(features, weight, bias)
        scaled = torch.empty_like(x)
        for out, part, scale in zip(self.orders(scaled), self.orders(x), self.by_order(scales), strict=True):
            torch.mul(part, scale, out=out)

        def pull_back(*grads: Tensor) -> tuple[Tensor, ...]:
            grad_scaled, grad_x, grad_scales = torch.empty_like(x), torch.empty_like(x), torch.empty_like(scales)
            grad_matrices = [torch.zeros_like(matrix) for matrix in matrices]
            rows, grad_rows = self.rows(scaled), self.rows(grad_scaled)
            for index, grad in enumerate(grads):
                for (m, row), (_, out), (_, given) in zip(rows, grad_rows, self.rows(grad), strict=True):
                    columns = matrices[m].unflatten(-1, (self.outputs, -1))[:, index]
                    torch.addmm(out, given, columns.T, beta=index > 0, out=out)
                    grad_matrices[m].unflatten(-1, (self.outputs, -1))[:, index].addmm_(row.T, given)
            parts = (self.orders(part) for part in (x, grad_scaled, grad_x))
            by_order = zip(*parts, self.by_order(scales), self.by_order(grad_scales), strict=True)
            for part, grad, out, scale, grad_scale in by_order:
                torch.mul(grad, scale, out=out)
                torch.sum(part * grad, dim=1, keepdim=True, out=grad_scale)
            return grad_x, grad_scales @ weight, grad_scales.T @ features, grad_scales.sum(0), *grad_matrices

        return outputs or self.mix(scaled, matrices), pull_back

    def by_order(self, scales: Tensor) -> list[Tensor]:
        """Scales (E, P·C) for each |m|: views (E, 1, n_m, C)."""
        parts = scales.unflatten(-1, (1, -1, self.in_channels)).split(list(range(self.lmax + 1, 0, -1)), dim=2)
        return list(parts)

    def mix(self, x: Tensor, matrices: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Apply the matrices (r·n_m·C, O·r·n_m·D) of each |m|: (E, M, C) → O times (E, M, D)."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            mixed = [(row @ matrices[m]).unflatten(-1, (self.outputs, -1, self.out_channels)) for m, row in self.rows(x)]
            return tuple(torch.cat([part[:, index] for part in mixed], dim=1) for index in range(self.outputs))
        outputs = tuple(x.new_empty(*x.shape[:2], self.out_channels) for _ in range(self.outputs))
        for index, output in enumerate(outputs):
            for (m, row), (_, out) in zip(self.rows(x), self.rows(output), strict=True):
                torch.mm(row, matrices[m].unflatten(-1, (self.outputs, -1))[:, index], out=out)
        return outputs


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

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`."""
        weight, bias, *matrices = tensors
        h = functional.silu(functional.linear(features, weight, bias))  # (E, R)
        mixed = []
        for m, row in self.rows(x):
            product = (h[:, :, None] * row[:, None]).flatten(1)  # (E, R·r·n_m·C)
            mixed.append((product @ matrices[m]).unflatten(-1, (self.outputs, -1, self.out_channels)))
        return tuple(torch.cat([part[:, index] for part in mixed], dim=1) for index in range(self.outputs))

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge, h ⊗ x."""
        return 2 * self.a[0].shape[0] * (self.lmax + 1) * self.in_channels
