"""Weights in the form in which a layer computes with them, kept from one prediction to the next.

One molecule is so little work that putting the weights together anew would be a good part of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")

_KEEPS: ContextVar[bool] = ContextVar("keeps", default=False)


@contextmanager
def weights_kept() -> Iterator[None]:
    """Within this, layers keep what they have made of their weights.

    It is for models that are done with training: a write through `parameter.data`, as those that swap weights in and
    out do it, leaves no trace by which it could be noticed.
    """
    token = _KEEPS.set(True)
    try:
        yield
    finally:
        _KEEPS.reset(token)


def are_weights_kept() -> bool:
    """Whether what is made of weights now will be used again."""
    return not (torch.compiler.is_compiling() or torch.is_grad_enabled()) and _KEEPS.get()


class Prepared:
    """What is made of parameters alone, made again when one of these is another or was written to.

    They are made each time outside `weights_kept`, where gradients are wanted, and by a compiler.

    Example:
        >>> weight, prepared = torch.ones(2), Prepared()
        >>> with torch.no_grad(), weights_kept():
        ...     first = prepared([weight], lambda: [2 * weight])
        ...     again = prepared([weight], lambda: [2 * weight])
        ...     changed = prepared([weight.mul_(3)], lambda: [2 * weight])
        >>> again is first, changed[0].tolist()
        (True, [6.0, 6.0])
    """

    def __init__(self) -> None:
        self._made_of: list[tuple[int, int, Tensor]] = []  # address, version and the memory itself
        self._value: Any = None

    def __call__(self, parameters: Sequence[Tensor], make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same values of the same parameters."""
        if not are_weights_kept():
            return make()
        if len(self._made_of) == len(parameters):
            for (address, version, _), parameter in zip(self._made_of, parameters, strict=True):
                if address != parameter.data_ptr() or version != parameter._version:
                    break
            else:
                return cast(T, self._value)
        self._value = value = make()
        # The aliases keep the memory of the parameters from being given to others, which would have the same address.
        self._made_of = [(tensor.data_ptr(), tensor._version, tensor.detach()) for tensor in parameters]
        return value

    def __reduce__(self) -> tuple[type["Prepared"], tuple[()]]:
        """A copy, or what is pickled, has nothing kept."""
        return Prepared, ()


def weights_of(module: nn.Module) -> list[Tensor]:
    """All parameters of a module, as `Module.parameters` gives them, in a fraction of its time."""
    weights: list[Tensor] = [parameter for parameter in module._parameters.values() if parameter is not None]
    for child in module._modules.values():
        if child is not None:
            weights += weights_of(child)
    return weights
