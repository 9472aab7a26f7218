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
from molformer.nn.prepared import Prepared, weights_of
from molformer.nn.written_out import convolved, products

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
        self._prepared = Prepared()
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

    def stacked(self, turned_in: Callable[..., Tensor], edges: Edges) -> Tensor:
        """`forward` with its outputs side by side, (E, M, O, D), and its derivative written out; it has no second one.

        Args:
            turned_in: gives the features in the frames of their edges (E, M, C); with factors, one for each pair
                (l, |m|) and channel (E, P·C), and the pair of each component (M,), times these.
            edges: with the edge features.
        """
        return torch.stack(convolved(self, turned_in(), edges.features), dim=2)

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """The weights as `apply_to` takes them, put together once for all edges."""

    @abstractmethod
    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor, out: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames.

        Args:
            x: features (E, M, C).
            features: of the edges (E, F).
            tensors: what `tensors` gives.
            out: tensors that may be written to and returned, where no gradient is wanted.

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

    def orders(self, x: Tensor) -> list[Tensor]:
        """Components of each |m|: views (E, r, n_m·C) of x (E, M, C), with r = 1 for m = 0 and else 2, +m and -m."""
        shapes = [(2 if m else 1, (self.lmax + 1 - m) * x.shape[-1]) for m in range(self.lmax + 1)]
        parts = split_columns(x.flatten(1), [signs * columns for signs, columns in shapes])
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

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

    pairs: Tensor

    def __init__(
        self, lmax: int, in_channels: int, out_channels: int, edge_features: int, group: Group, outputs: int = 1
    ) -> None:
        super().__init__(lmax, in_channels, out_channels, edge_features, group, outputs)
        pairs = (lmax + 1) * (lmax + 2) // 2
        self.scale = nn.Linear(edge_features, pairs * in_channels)
        nn.init.normal_(self.scale.weight, std=1 / sqrt(edge_features))
        nn.init.ones_(self.scale.bias)
        self._prepared_side_by_side = Prepared()
        signs = [m for m in range(lmax + 1) for _ in range(2 if m else 1)]
        starts = [sum(lmax + 1 - k for k in range(m)) for m in range(lmax + 1)]
        pairs_of = [starts[m] + degree for m in signs for degree in range(lmax + 1 - m)]
        self.register_buffer("pairs", torch.tensor(pairs_of), persistent=False)  # (l, |m|) of each component (M,)

    def stacked(self, turned_in: Callable[..., Tensor], edges: Edges) -> Tensor:
        """See `EdgeConvolution.stacked`; the factors are the scales."""
        matrices = self._prepared_side_by_side(weights_of(self), self.side_by_side)
        y = products(turned_in(self.scale(edges.features), self.pairs).flatten(1), matrices)
        return y.unflatten(1, (-1, self.outputs, self.out_channels))

    def tensors(self) -> list[Tensor]:
        """Weight and bias of the scales, then `matrices`."""
        return [self.scale.weight, self.scale.bias, *self._prepared(weights_of(self), self.matrices)]

    def matrices(self) -> list[Tensor]:
        """The weights applied from the right: each output's of m = 0, of m = 1 and so on.

        Returns:
            (n_0·C, n_0·D) for m = 0 and for E(3), where +m and -m are rows of their own;
            (2·n_m·C, 2·n_m·D) for m > 0 of SE(3), which takes [x_+m, x_-m].
        """
        matrices: list[Tensor] = []
        for m, weight in enumerate(self.a):
            parts = weight[0].chunk(self.outputs, dim=-1)
            if m > 0 and self.group == "SE(3)":
                pairs = zip(parts, self.b[m - 1][0].chunk(self.outputs, dim=-1), strict=True)
                parts = tuple(torch.cat([torch.cat([a, b], dim=1), torch.cat([-b, a], dim=1)]) for a, b in pairs)
            matrices += parts
        return matrices

    def side_by_side(self) -> list[Tensor]:
        """For each of `blocks` the `matrices` of all outputs, whose columns of a component stand side by side.

        Returns:
            (rows·C, rows·O·D), of E(3) the same for +m and -m.
        """
        sizes = [(self.outputs, self.lmax + 1 - m, self.out_channels) for m in range(self.lmax + 1)]
        a, b = (
            [weight[0].unflatten(1, size).transpose(1, 2) for weight, size in zip(weights, those, strict=True)]
            for weights, those in ((self.a, sizes), (self.b, sizes[1:] if len(self.b) else []))
        )
        if self.group == "SE(3)":
            for m, (plus, cross) in enumerate(zip(a[1:], b, strict=True), start=1):
                a[m] = torch.cat([torch.cat([plus, cross], dim=1), torch.cat([-cross, plus], dim=1)])
        flat = [matrix.flatten(1) for matrix in a]
        return [flat[m] for m, _ in self.blocks]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """|m| and number of components of each matrix product: +m and -m together, of E(3) one after the other."""
        degrees = [(m, self.lmax + 1 - m) for m in range(self.lmax + 1)]
        if self.group == "E(3)":
            return [degrees[0], *(pair for pair in degrees[1:] for _ in range(2))]
        return [degrees[0], *((m, 2 * count) for m, count in degrees[1:])]

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor, out: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`."""
        weight, bias, *matrices = tensors
        scales = self.scales(functional.linear(features, weight, bias))
        return self.mix([part * scale for part, scale in zip(self.orders(x), scales, strict=True)], matrices, out)

    def scales(self, x: Tensor) -> list[Tensor]:
        """Scales (E, P·C) for each |m|: views (E, 1, n_m·C)."""
        parts = split_columns(x, [(self.lmax + 1 - m) * self.in_channels for m in range(self.lmax + 1)])
        return [part.unsqueeze(1) for part in parts]

    def mix(
        self, orders: Sequence[Tensor], matrices: Sequence[Tensor], out: Sequence[Tensor] = ()
    ) -> tuple[Tensor, ...]:
        """Apply the `matrices` to features by |m|, (E, r, n_m·C): O times (E, M, D), in `out` if that is possible."""
        first, rows = orders[0], self.rows(orders)
        shape = len(first), (self.lmax + 1) ** 2, self.out_channels
        outputs = list(out) or [first.new_empty(shape) for _ in range(self.outputs)]
        in_place = not (
            torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled(first.device.type)
        )
        for index, output in enumerate(outputs):
            if in_place:
                for (m, row), (_, part) in zip(rows, self.rows(self.orders(output)), strict=True):
                    torch.mm(row, matrices[m * self.outputs + index], out=part)
            else:
                mixed = [row @ matrices[m * self.outputs + index] for m, row in rows]
                outputs[index] = join_columns(mixed).view(shape)
        return tuple(outputs)

    def rows(self, orders: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        """What a matrix is applied to, with its |m|: views (E, r·n_m·C), of E(3) (E, n_m·C) for each sign."""
        apart = self.group == "E(3)"
        return [(m, row.flatten(1)) for m, part in enumerate(orders) for row in (part.unbind(1) if apart else [part])]

    def apply_and_pull_back(
        self, x: Tensor, features: Tensor, tensors: Sequence[Tensor], outputs: Sequence[Tensor] = ()
    ) -> tuple[Sequence[Tensor], PullBack]:
        """`apply_to` and its derivative, written out: y = (s ∘ x) W with scales s = U f + c of the edge features."""
        weight, bias, *matrices = tensors
        all_scales = functional.linear(features, weight, bias)
        parts, scales = self.orders(x), self.scales(all_scales)
        scaled = [part * scale for part, scale in zip(parts, scales, strict=True)]

        def pull_back(*grads: Tensor) -> tuple[Tensor, ...]:
            grad_x, grad_scales = torch.empty_like(x), torch.empty_like(all_scales)
            grad_matrices: dict[int, Tensor] = {}
            for index, grad in enumerate(grads):
                rows = zip(*map(self.rows, (scaled, self.orders(grad_x), self.orders(grad))), strict=True)
                for (m, row), (_, out), (_, given) in rows:
                    which = m * self.outputs + index
                    torch.addmm(out, given, matrices[which].T, beta=index > 0, out=out)
                    so_far = grad_matrices.get(which)
                    grad_matrices[which] = row.T @ given if so_far is None else so_far.addmm_(row.T, given)
            each = zip(parts, self.orders(grad_x), scales, self.scales(grad_scales), strict=True)
            for part, grad, scale, grad_scale in each:  # grad is that of the scaled part until it is scaled too
                torch.sum(part * grad, dim=1, keepdim=True, out=grad_scale)
                grad.mul_(scale)
            by_index = (grad_matrices[which] for which in range(len(matrices)))
            return grad_x, grad_scales @ weight, grad_scales.T @ features, grad_scales.sum(0), *by_index

        return outputs or self.mix(scaled, matrices), pull_back
