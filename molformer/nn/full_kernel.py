"""FullConvolution: the kernel of the SE(3)-Transformer with all of its radial functions.

Fuchs et al. 2020 (arXiv 2006.10503), equation 8, in the edge's frame (see `nn.so2`). The radial functions are
combinations of R shared ones, h_e, so that y_e = Σ_r h_er (W_r x_e): the product of (h_e ⊗ x_e) with one matrix.
Letters: E edges, M components, C channels in, D channels out, O outputs, R radial functions, n_m degrees of order m.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.nn.columns import join_columns, split_columns
from molformer.nn.prepared import weights_of
from molformer.nn.so2 import EdgeConvolution, Group, PullBack

LEAST_EDGES = 64
NUMBERS_AT_ONCE = {"cpu": 1 << 19}
NUMBERS_AT_ONCE_ELSEWHERE = 1 << 27
"""Of h ⊗ x, for so many edges as these are but no fewer than `LEAST_EDGES`: on a processor they stay in the cache."""


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
        return [linear.weight, linear.bias, *self._prepared(weights_of(self), self._matrices)]

    def _matrices(self) -> list[Tensor]:
        matrices = [a.flatten(0, 1) for a in self.a]
        for a, b in zip(matrices[1:], self.b, strict=False):
            matrices += [a + b.flatten(0, 1), b.flatten(0, 1) - a]
        return matrices

    def apply_to(self, x: Tensor, features: Tensor, *tensors: Tensor, out: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Apply the kernel in the frames; see `EdgeConvolution.apply_to`. `out` is of no use here."""
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
        zeroth, *orders = self.orders(x)

        def product(row: Tensor, matrix: Tensor) -> Tensor:
            return radial_product(h, row, matrix, compute)

        mixed = [product(zeroth.squeeze(1), matrices[0])]
        for m, part in enumerate(orders, start=1):
            (plus, minus), a = part.unbind(1), matrices[m]
            if self.group == "E(3)":
                mixed += [product(plus, a), product(minus, a)]
            else:
                a_plus_b, b_minus_a = matrices[self.lmax + 2 * m - 1 : self.lmax + 2 * m + 1]
                common = product(plus + minus, a)
                mixed += [common - product(minus, a_plus_b), common + product(plus, b_minus_a)]
        apart = [split_columns(part, [part.shape[1] // self.outputs] * self.outputs) for part in mixed]
        return tuple(join_columns(output).unflatten(1, (-1, self.out_channels)) for output in zip(*apart, strict=True))

    @property
    def numbers_per_edge(self) -> int:
        """Size of the largest tensor that is made of an edge, h ⊗ x."""
        return self.a[0].shape[0] * (self.lmax + 1) * self.in_channels

    @property
    def min_chunk(self) -> int:
        """The gradient of the weights is summed up once a chunk, and is large here."""
        return 512


def radial_product(h: Tensor, x: Tensor, matrix: Tensor, compute: bool = True) -> Tensor:
    """Products of all edges.

    Args:
        h: radial functions (E, R).
        x: features (E, K).
        matrix: W (R·K, D).
        compute: if not, what is returned has no meaning, but its derivatives are right.

    Returns:
        (E, D).
    """
    if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return _outer(h, x) @ matrix
    return _RadialProduct.apply(h, x, matrix, compute)


def _outer(h: Tensor, x: Tensor) -> Tensor:
    return (h[:, :, None] * x[:, None]).flatten(1)  # (E, R·K)


def _some_edges(h: Tensor, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some edges at a time, with room for their h ⊗ x."""
    size = h.shape[1] * x.shape[1]
    step = max(LEAST_EDGES, NUMBERS_AT_ONCE.get(h.device.type, NUMBERS_AT_ONCE_ELSEWHERE) // size)
    room = h.new_empty(min(step, len(h)), size)
    for start in range(0, len(h), step):
        part = slice(start, min(start + step, len(h)))
        yield part, room[: part.stop - start]


def _fill(outer: Tensor, h: Tensor, x: Tensor) -> Tensor:
    torch.mul(h[:, :, None], x[:, None], out=outer.view(*h.shape, -1))
    return outer


class _RadialProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, x: Tensor, matrix: Tensor, compute: bool) -> Tensor:
        ctx.save_for_backward(h, x, matrix)
        if not compute:
            return x.new_zeros(len(x), matrix.shape[1])
        output = x.new_empty(len(x), matrix.shape[1])
        for part, outer in _some_edges(h, x):
            torch.mm(_fill(outer, h[part], x[part]), matrix, out=output[part])
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, x, matrix = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *_radial_gradients(h, x, matrix, grad), None
        grad_h = grad_x = grad_matrix = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            through = (grad @ matrix.T).view(*h.shape, x.shape[1])  # ∂(h ⊗ x)
            grad_h = (through * x[:, None]).sum(2)
            grad_x = torch.bmm(h[:, None], through).squeeze(1)
        if ctx.needs_input_grad[2]:
            grad_matrix = _outer(h, x).T @ grad
        return grad_h, grad_x, grad_matrix, None


def _radial_gradients(h: Tensor, x: Tensor, matrix: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of h, x and W, some edges at a time."""
    grad_h, grad_x, grad_matrix = torch.empty_like(h), torch.empty_like(x), torch.zeros_like(matrix)
    for part, room in _some_edges(h, x):
        some_h, some_x, some_grad = h[part], x[part], grad[part]
        torch.addmm(grad_matrix, _fill(room, some_h, some_x).T, some_grad, out=grad_matrix)
        through = torch.mm(some_grad, matrix.T, out=room).view(*some_h.shape, -1)  # ∂(h ⊗ x)
        grad_x[part] = torch.bmm(some_h[:, None], through).squeeze(1)
        torch.sum(through.mul_(some_x[:, None]), dim=2, out=grad_h[part])
    return grad_h, grad_x, grad_matrix
