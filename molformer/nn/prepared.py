"""Weights in the form in which a layer computes with them, kept from one inference to the next.

One molecule is so little work that putting the weights together anew would be a good part of it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Prepared:
    """Tensors that are made of parameters alone, made again when one of these is another or has other values.

    Where gradients are wanted, and by a compiler, they are made each time.

    Example:
        >>> weight, prepared = torch.ones(2), Prepared()
        >>> with torch.no_grad():
        ...     first = prepared([weight], lambda: [2 * weight])
        ...     again = prepared([weight], lambda: [2 * weight])
        ...     changed = prepared([weight.mul_(3)], lambda: [2 * weight])
        >>> again is first, changed[0].tolist()
        (True, [6.0, 6.0])
    """

    def __init__(self) -> None:
        self._kept: tuple[list[tuple[Tensor, int]], list[Tensor]] = [], []

    def __call__(self, parameters: Sequence[Tensor], make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What `make` gives, or gave for the same values of the same parameters."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return make()
        made_of, value = self._kept
        if len(made_of) == len(parameters) and all(map(_unchanged, made_of, parameters)):
            return value
        value = make()
        # The aliases keep the memory of the parameters from being given to others, which would have the same address.
        self._kept = [(parameter.detach(), parameter._version) for parameter in parameters], value
        return value

    def __reduce__(self) -> tuple[type["Prepared"], tuple[()]]:
        """A copy, or what is pickled, has nothing kept."""
        return Prepared, ()


def _unchanged(before: tuple[Tensor, int], parameter: Tensor) -> bool:
    alias, version = before
    return alias.data_ptr() == parameter.data_ptr() and version == parameter._version
