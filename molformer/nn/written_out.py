"""Derivatives of the kernels, written out for the fused attention of a GPU: few operations, each over all edges.

They have no second derivative, and no chunks; for these there is `nn.receive`. Letters: E edges, C channels.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from molformer.nn.so2 import EdgeConvolution


def convolved(convolution: "EdgeConvolution", x: Tensor, features: Tensor) -> tuple[Tensor, ...]:
    """A kernel applied to features in the frames of their edges, see `EdgeConvolution.forward`.

    Args:
        convolution: O outputs of D channels.
        x: features in the frames (E, M, C).
        features: of the edges (E, F).

    Returns:
        O times (E, M, D).
    """
    tensors, precision = _as_autocast_has([x, features, *convolution.tensors()])
    with precision:
        outputs: tuple[Tensor, ...] = _Convolution.apply(convolution, *tensors)
    return outputs


def products(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Consecutive columns of x (E, …), each times a matrix of its own, side by side (E, …)."""
    tensors, precision = _as_autocast_has([x, *matrices])
    with precision:
        y: Tensor = _Products.apply(*tensors)
    return y


def _as_autocast_has(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], torch.autocast]:
    """Tensors as autocast has them in a product, and a context without it, for what does not know of it."""
    device = tensors[0].device.type
    if torch.is_autocast_enabled(device):
        tensors = [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
    return tensors, torch.autocast(device, enabled=False)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, convolution: "EdgeConvolution", x: Tensor, features: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.convolution = convolution
        ctx.save_for_backward(x, features, *tensors)
        return convolution.apply_to(x, features, *tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, features, *tensors = ctx.saved_tensors
        outputs = [x.new_empty(0)] * len(grads)  # they are not wanted
        _, pull_back = ctx.convolution.apply_and_pull_back(x, features, tensors, outputs)
        return None, *pull_back(*grads)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(x, *matrices)
        y = x.new_empty(len(x), sum(matrix.shape[1] for matrix in matrices))
        for part, matrix, out in _columns(x, y, matrices):
            torch.mm(part, matrix, out=out)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, *matrices = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        for out, matrix, part in _columns(grad_x, grad, matrices):
            torch.mm(part, matrix.T, out=out)
        return grad_x, *[part.T @ given for part, _, given in _columns(x, grad, matrices)]


def _columns(x: Tensor, y: Tensor, matrices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The columns of x that a matrix takes, the matrix, and the columns of y that it gives: views."""
    rows, columns = zip(*(matrix.shape for matrix in matrices), strict=True)
    return zip(x.split(rows, dim=1), matrices, y.split(columns, dim=1), strict=True)
