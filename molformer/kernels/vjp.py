"""Custom VJPs for the memory kernel: from the gradient of what nodes receive to those of what it is made of.

They give what autograd gives, in fewer passes over the features of edges, and without computing keys and values again.
They have no derivatives themselves, and give none of frames and envelopes. Letters as in `nn.attention` and `nn.so2`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from molformer.nn.attention import SE3Attention
from molformer.nn.edges import Edges
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.so2 import EdgeConvolution, SeparableConvolution

Gradients = tuple[Tensor, Tensor, list[Tensor]]
"""Gradients of features in the frames, radial functions and matrices."""


def aggregate_vjp(
    layer: SE3Attention, queries: Tensor, keys: Tensor, values: Tensor, edges: Edges, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, see `SE3Attention.aggregate`.

    y = Σ α v:  ∂v = α ∂y,  ∂α = v·∂y;  of the softmax:  ∂s = α (∂α - Σ α ∂α);  of s = q·k:  ∂q = k ∂s,  ∂k = q ∂s.
    """
    queries, grad = queries.index_select(0, edges.dst), grad.index_select(0, edges.dst)
    weights = layer.weights(queries, keys, edges)
    grad_weights = layer.head_sums(grad * values)
    mean = edges.sum_at_dst(weights * grad_weights).index_select(0, edges.dst)
    grad_logits = weights * (grad_weights - mean)
    along = None
    if layer.gain is not None:  # s = q·k r with r = 1/√(ε + k²/n):  ∂k = q r ∂s - k (q·k) r³ ∂s/n
        inverse = layer.inverse_rms(keys)
        along = layer.per_channel(layer.head_sums(queries * keys) * inverse**3 * grad_logits / -layer.size)
        grad_logits = grad_logits * inverse
    scaled = layer.per_channel(grad_logits)
    grad_keys = queries.mul_(scaled)
    if along is not None:
        grad_keys.addcmul_(keys, along)
    return edges.sum_at_dst(keys * scaled), grad_keys, grad.mul_(layer.per_channel(weights))


def separable_vjp(
    convolution: SeparableConvolution,
    x: Tensor,
    radial: Tensor,
    matrices: Sequence[Tensor],
    grads: Sequence[Tensor],
) -> Gradients:
    """y_m = (s_m ∘ x_m) W_m:  ∂W = (s ∘ x)ᵀ ∂y and, with t = ∂y Wᵀ,  ∂x = s ∘ t,  ∂s = Σ_± x ∘ t."""
    grad_x, grad_radial, grad_matrices = torch.empty_like(x), torch.empty_like(radial), []
    orders = zip(*map(convolution.orders, (x, grad_x)), *map(convolution.scales, (radial, grad_radial)), strict=True)
    grad_orders = [convolution.orders(grad) for grad in grads]
    for m, (part, grad_part, scale, grad_scale) in enumerate(orders):
        each = matrices[m * len(grads) : (m + 1) * len(grads)]
        given = [order[m].reshape(-1, matrix.shape[1]) for order, matrix in zip(grad_orders, each, strict=True)]
        scaled = (part * scale).view(-1, len(each[0]))
        grad_matrices += [scaled.T @ grad for grad in given]
        through = given[0] @ each[0].T
        for grad, matrix in zip(given[1:], each[1:], strict=True):
            through.addmm_(grad, matrix.T)
        through = through.view(part.shape)
        torch.sum(part * through, dim=1, keepdim=True, out=grad_scale)
        torch.mul(through, scale, out=grad_part)
    return grad_x, grad_radial, grad_matrices


def full_vjp(
    convolution: FullConvolution, x: Tensor, radial: Tensor, matrices: Sequence[Tensor], grads: Sequence[Tensor]
) -> Gradients:
    """Of the products y = (h ⊗ x) W in `FullConvolution.convolve`:  ∂W = (h ⊗ x)ᵀ ∂y and, with T = ∂y Wᵀ,
    ∂x = h T,  ∂h = T x."""
    grad_x, grad_radial, grad_matrices = torch.empty_like(x), torch.zeros_like(radial), [*map(torch.zeros_like, matrices)]

    def product_vjp(index: int, part: Tensor, given: Tensor) -> Tensor:
        outer = (radial[:, :, None] * part[:, None]).flatten(1)  # (E, R·K)
        grad_matrices[index].addmm_(outer.T, given)
        through = torch.mm(given, matrices[index].T, out=outer).unflatten(1, (radial.shape[1], -1))
        grad_part = torch.bmm(radial[:, None], through).squeeze(1)
        grad_radial.add_(through.mul_(part[:, None]).sum(2))
        return grad_part

    grad_orders = (torch.cat(order, dim=2) for order in zip(*map(convolution.orders, grads), strict=True))
    for m, (part, grad_part, given) in enumerate(
        zip(convolution.orders(x), convolution.orders(grad_x), grad_orders, strict=True)
    ):
        if m == 0 or convolution.group == "E(3)":
            for sign in range(part.shape[1]):
                grad_part[:, sign] = product_vjp(m, part[:, sign], given[:, sign])
            continue
        (plus, minus), (of_plus, of_minus), place = part.unbind(1), given.unbind(1), convolution.lmax + 2 * m - 1
        common = product_vjp(m, plus + minus, of_plus + of_minus)
        grad_part[:, 0] = common + product_vjp(place + 1, plus, of_minus)
        grad_part[:, 1] = common + product_vjp(place, minus, -of_plus)
    return grad_x, grad_radial, grad_matrices


CONVOLUTION_VJPS: dict[type[EdgeConvolution], Callable[..., Gradients]] = {
    SeparableConvolution: separable_vjp,
    FullConvolution: full_vjp,
}
"""Those that there are; other convolutions are differentiated by autograd."""
