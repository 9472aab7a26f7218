"""Losses in units of each target's scale, with missing labels masked.

Each is the sum over the labelled rows and their number, so that the mean can be taken over several batches or
processes, Σ sums / Σ counts. A missing label (NaN) is replaced before any arithmetic, so
that it changes neither the value nor a gradient.
Letters: n rows (graphs or nodes), K classes.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["mae", "mse", "huber"]


def class_loss_sum(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies of one target over its labelled rows, and their number.

    Args:
        logits: (n,) for a binary target, (n, K) for K classes.
        label: 0 or 1, or the index of a class (n,), NaN where missing.

    Returns:
        The sum (), in nats, and the integer count ().

    Example:
        >>> _, count = class_loss_sum(torch.zeros(2, 4), torch.tensor([3.0, float("nan")]))
        >>> count.item()
        1
    """
    there = label.isfinite()
    known = torch.where(there, label, 0.0)
    if logits.ndim == 1:
        values = functional.binary_cross_entropy_with_logits(logits, known.to(logits.dtype), reduction="none")
    else:
        values = functional.cross_entropy(logits, known.long(), reduction="none")
    return torch.where(there, values, 0.0).sum(), there.sum()


def masked_loss_sum(prediction: Tensor, label: Tensor, scale: Tensor, loss: LossName) -> tuple[Tensor, Tensor]:
    """Sum of the losses of one target over its labelled rows, and their number.

    The error of a vector or matrix is its length, so that the loss does not depend on the frame.

    Args:
        prediction: (n,), (n, 3) or (n, 3, 3).
        label: the same shape, NaN where missing; a row with any component missing counts as missing.
        scale: typical deviation of the target, in the same unit.
        loss: `mae`, `mse` or `huber` (quadratic below one scale).

    Returns:
        The sum (), without unit, and the integer count ().

    Example:
        >>> label = torch.tensor([1.0, 5.0, float("nan")])
        >>> total, count = masked_loss_sum(torch.tensor([3.0, 9.0, 9.0]), label, torch.tensor(2.0), "mae")
        >>> total.item(), count.item()
        (3.0, 2)
    """
    there = label.isfinite()
    error = torch.where(there, prediction - torch.where(there, label, 0.0), 0.0) / scale
    if error.ndim > 1:
        error, there = error.flatten(1), there.flatten(1).all(-1)
        square = torch.where(there, error.square().sum(-1), 0.0)
        size = (square + 1e-12).sqrt() if loss != "mse" else square
    else:
        square, size = error.square(), error.abs()
    if loss == "mse":
        values = square
    elif loss == "mae":
        values = size
    else:
        values = torch.where(size < 1, 0.5 * square, size - 0.5)
    return torch.where(there, values, 0.0).sum(), there.sum()


def with_bounds(label: Tensor, prediction: Tensor, lower: Tensor | None, upper: Tensor | None) -> Tensor:
    """Labels in which a value that is only known to lie beyond a bound is the closest to the prediction that it can be.

    A loss of the result has no value and gradient where a prediction is on the right side of its bound. All are (n,),
    bounds NaN where there is none, and None if there are none at all.

    Example:
        >>> nan, label = float("nan"), torch.tensor([1.0, float("nan"), float("nan")])
        >>> with_bounds(label, torch.tensor([9.0, 9.0, 3.0]), torch.tensor([nan, 5.0, 5.0]), None).tolist()
        [1.0, 9.0, 5.0]
    """
    for bound, nearest in ((lower, torch.maximum), (upper, torch.minimum)):
        if bound is not None:
            label = torch.where(bound.isfinite(), nearest(prediction.detach().to(bound.dtype), bound), label)
    return label


def mean(total: Tensor, count: Tensor) -> Tensor:
    """A sum over a number of rows; zero, not NaN, where there are none."""
    return total / count.clamp(min=1)
