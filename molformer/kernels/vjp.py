"""Custom VJPs for the memory kernel: from the gradient of aggregated messages to those of their inputs.

They give what autograd gives, in fewer passes over the features of edges and without recomputing keys and values.
They are not differentiable, and give no gradients of frames and envelopes. Letters as in `nn.attention`, `nn.so2` and
`nn.full_kernel`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from molformer.nn.attention import SE3Attention
from molformer.nn.edges import Edges
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.so2 import EdgeConvolution, SeparableConvolution

Gradients = tuple[Tensor, Tensor, list[Tensor]]  # gradients of features in the frames, radial functions and matrices


def aggregate_vjp(
    layer: SE3Attention, queries: Tensor, keys_and_values: Tensor, edges: Edges, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of queries, and of keys and values side by side (E, M, 2·D), see `SE3Attention.aggregate`.

    y = Σ α v:  ∂v = α ∂y,  ∂α = v·∂y;  of the softmax:  ∂s = α (∂α - Σ α ∂α);  of s = q·k:  ∂q = k ∂s,  ∂k = q ∂s.
    """
    keys, values = keys_and_values.chunk(2, dim=-1)
    queries, grad = queries.index_select(0, edges.dst), grad.index_select(0, edges.dst)
    weights = layer.weights(queries, keys, edges)
    grad_weights = layer.head_sums(grad * values)
    mean = edges.sum_at_dst(weights * grad_weights).index_select(0, edges.dst)
    grad_logits = weights * (grad_weights - mean)
    result = torch.empty_like(keys_and_values)
    grad_keys, grad_values = result.chunk(2, dim=-1)
    torch.mul(grad, layer.per_channel(weights), out=grad_values)
    along = None
    if layer.gain is not None:  # s = q·k r with r = 1/√(ε + k²/n):  ∂k = q r ∂s - k (q·k) r³ ∂s/n
        inverse = layer.inverse_rms(keys)
        along = layer.per_channel(layer.head_sums(queries * keys) * inverse**3 * grad_logits / -layer.size)
        grad_logits = grad_logits * inverse
    scaled = layer.per_channel(grad_logits)
    torch.mul(queries, scaled, out=grad_keys)
    if along is not None:
        grad_keys.addcmul_(keys, along)
    return edges.sum_at_dst(keys * scaled), result


def separable_vjp(
    convolution: SeparableConvolution, x: Tensor, radial: Tensor, matrices: Sequence[Tensor], grad: Tensor
) -> Gradients:
    """y_m = (s_m ∘ x_m) W_m:  ∂W = (s ∘ x)ᵀ ∂y and, with t = ∂y Wᵀ,  ∂x = s ∘ t,  ∂s = Σ_± x ∘ t."""
    grad_x, grad_radial, grad_matrices = torch.empty_like(x), torch.empty_like(radial), []
    orders = map(convolution.orders, (x, grad_x, grad))
    scales = map(convolution.scales, (radial, grad_radial))
    for part, grad_part, given, scale, grad_scale, matrix in zip(*orders, *scales, matrices, strict=True):
        given = given.reshape(-1, matrix.shape[1])
        grad_matrices.append((part * scale).view(-1, len(matrix)).T @ given)
        through = (given @ matrix.T).view(part.shape)
        torch.sum(part * through, dim=1, keepdim=True, out=grad_scale)
        torch.mul(through, scale, out=grad_part)
    return grad_x, grad_radial, grad_matrices


def full_vjp(
    convolution: FullConvolution, x: Tensor, radial: Tensor, matrices: Sequence[Tensor], grad: Tensor
) -> Gradients:
    """Of the products y = (h ⊗ x) W in `FullConvolution.convolve`:  ∂W = (h ⊗ x)ᵀ ∂y and, with T = ∂y Wᵀ,
    ∂x = h T,  ∂h = T x.
    """
    grad_x, grad_radial = torch.empty_like(x), torch.zeros_like(radial)
    grad_matrices = [torch.zeros_like(matrix) for matrix in matrices]

    def product_vjp(index: int, part: Tensor, given: Tensor) -> Tensor:
        outer = (radial[:, :, None] * part[:, None]).flatten(1)  # (E, R·K)
        grad_matrices[index].addmm_(outer.T, given)
        through = torch.mm(given, matrices[index].T, out=outer).unflatten(1, (radial.shape[1], -1))
        grad_part = torch.bmm(radial[:, None], through).squeeze(1)
        grad_radial.add_(through.mul_(part[:, None]).sum(2))
        return grad_part

    orders = zip(*map(convolution.orders, (x, grad_x, grad)), strict=True)
    for m, (part, grad_part, given) in enumerate(orders):
        if m == 0 or convolution.group == "E(3)":
            for sign in range(part.shape[1]):
                grad_part[:, sign] = product_vjp(m, part[:, sign], given[:, sign])
            continue
        (plus, minus), (of_plus, of_minus), place = part.unbind(1), given.unbind(1), convolution.lmax + 2 * m - 1
        common = product_vjp(m, plus + minus, of_plus + of_minus)
        grad_part[:, 0] = common + product_vjp(place + 1, plus, of_minus)
        grad_part[:, 1] = common + product_vjp(place, minus, -of_plus)
    return grad_x, grad_radial, grad_matrices


def convolution_vjp(
    convolution: EdgeConvolution, x: Tensor, radial: Tensor, matrices: Sequence[Tensor], grad: Tensor
) -> Gradients:
    """Gradients of x, radial functions and matrices from that of `EdgeConvolution.convolve`'s output."""
    if isinstance(convolution, SeparableConvolution):
        return separable_vjp(convolution, x, radial, matrices, grad)
    assert isinstance(convolution, FullConvolution)
    return full_vjp(convolution, x, radial, matrices, grad)
