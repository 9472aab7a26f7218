"""Cutting a matrix into runs of columns and putting them together, each the derivative of the other.

autograd's own derivative of `torch.cat` is a slice for each part, whose derivative in turn is a whole matrix of zeros
for each part; a loss on forces goes through both.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def split_columns(x: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """Runs of columns (E, size) of x (E, Σ sizes), views.

    Example:
        >>> [part.shape[1] for part in split_columns(torch.zeros(4, 5), [2, 3])]
        [2, 3]
    """
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return _Split.apply(x, sizes)
    return x.split_with_sizes(list(sizes), dim=1)


def join_columns(parts: Sequence[Tensor]) -> Tensor:
    """The inverse of `split_columns`, a copy.

    Example:
        >>> join_columns([torch.zeros(4, 2), torch.ones(4, 3)]).shape
        torch.Size([4, 5])
    """
    return torch.cat(list(parts), dim=1) if torch.compiler.is_compiling() else _Join.apply(*parts)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        return x.split_with_sizes(list(sizes), dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return join_columns(grads), None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.sizes = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(split_columns(grad, ctx.sizes))
