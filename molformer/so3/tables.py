"""Constant tensors, computed once and cached for the lifetime of the process."""

from collections.abc import Callable, Hashable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def cached_tensor(make: Callable[P, T]) -> Callable[P, T]:
    """`functools.cache` for a function that returns tensors, usable by autograd whoever asks first.

    The first caller may be in inference mode; a tensor made there could not serve a later backward.

    Example:
        >>> ones = cached_tensor(lambda size: torch.ones(size))
        >>> with torch.inference_mode():
        ...     first = ones(2)
        >>> ones(2) is first, first.is_inference()
        (True, False)
    """

    @cache
    def made(*args: Hashable, **kwargs: Hashable) -> T:
        with torch.inference_mode(False):
            return make(*args, **kwargs)  # type: ignore[arg-type]

    return wraps(make)(made)  # type: ignore[return-value]
