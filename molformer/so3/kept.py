"""Tensors that are made once and kept for the whole run of a program."""

from collections.abc import Callable, Hashable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def kept(make: Callable[P, T]) -> Callable[P, T]:
    """`functools.cache` for a function that makes tensors, whoever asks for them first.

    A prediction in torch's inference mode may be the first: what is made there must serve gradients later.

    Example:
        >>> ones = kept(lambda size: torch.ones(size))
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
