"""Σ_r h_er (W_r x_e) for all edges: what the full kernel is made of.

It is the product of (h_e ⊗ x_e) with one matrix. The derivative is written out so that h ⊗ x is not kept, and so that
it can be had without the product itself where that is known already.
Letters: E edges, R radial functions, K numbers in, D numbers out.
"""

from typing import Any

import torch
from torch import Tensor


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
    if torch.is_autocast_enabled(x.device.type):
        return _outer(h, x) @ matrix
    return _RadialProduct.apply(h, x, matrix, compute)


def _outer(h: Tensor, x: Tensor) -> Tensor:
    return (h[:, :, None] * x[:, None]).flatten(1)  # (E, R·K)


class _RadialProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, x: Tensor, matrix: Tensor, compute: bool) -> Tensor:
        ctx.save_for_backward(h, x, matrix)
        return _outer(h, x) @ matrix if compute else x.new_zeros(len(x), matrix.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, x, matrix = ctx.saved_tensors
        grad_h = grad_x = grad_matrix = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            through = (grad @ matrix.T).view(*h.shape, x.shape[1])  # ∂(h ⊗ x)
            grad_h = (through * x[:, None]).sum(2)
            grad_x = torch.bmm(h[:, None], through).squeeze(1)
        if ctx.needs_input_grad[2]:
            grad_matrix = _outer(h, x).T @ grad
        return grad_h, grad_x, grad_matrix, None
