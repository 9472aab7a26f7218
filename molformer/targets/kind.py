"""TargetKind: shape, symmetry, head, loss and metrics of one kind of target.

torch, torchmetrics and e3nn are imported when needed, since readers of files use kinds without them.
Letters: n rows (graphs or nodes), D = Σ (2l+1) components of a value in the basis of e3nn.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod, sqrt
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from molformer.errors import ConfigError

if TYPE_CHECKING:
    from e3nn.o3 import Irreps
    from torch import Tensor
    from torchmetrics import MetricCollection

    from molformer.nn.readout import Head, Pooling
    from molformer.targets.losses import LossName

Baseline = Literal["sum", "mean", "element", "moment"]
"""A linear model of the composition: the sum over atoms of a coefficient of their element, the mean of these, or, for
values per atom, the coefficient itself; times the identity where a value is a matrix. For a second moment, the sum over
atoms of two coefficients, the second times the squared distance from the centre of nuclear charge."""

Derivative = Literal["position", "strain"]
"""Variable of differentiation of an energy; see `models.derivatives` for signs and factors."""


@dataclass(frozen=True)
class HeadOptions:
    """Arguments of a head factory.

    Args:
        channels: of the node features.
        pooling: readout of intensive targets and classes.
        pool_first: whether features are pooled before the readout, see `nn.readout.PooledHead`.
        input_vectors: number of input vectors of a node.
        classes: of the label; empty if its kind has none.
    """

    channels: int
    pooling: "Pooling" = "attention"
    pool_first: bool = False
    input_vectors: int = 0
    classes: tuple[str, ...] = ()


def _number_loss(*rows: Any) -> "tuple[Tensor, Tensor]":
    from molformer.targets.losses import masked_loss_sum

    return masked_loss_sum(*rows)


def _number_metrics(classes: Sequence[str]) -> "MetricCollection":
    from molformer.targets.metrics import number_metrics

    return number_metrics(classes)


@dataclass(frozen=True, eq=False)
class TargetKind:
    """One kind of target.

    Args:
        name: in labels, stores and model folders.
        head: factory of the readout; None for a kind that is always a derivative.
        shape: of one value: () for a number, (3,) for a vector, (3, 3) for a matrix, or (D,).
        irreps: of a value, in the notation of e3nn; `0e + 2e` for a symmetric matrix.
        per_node: whether there is one value per atom or point rather than per structure.
        baseline: composition model fitted to the training part and subtracted from the target; None for zero.
        reads: degree of features that the head reads, if higher than that of `irreps`.
        derivative: of an energy; if there is also a head, `forces` of the model selects between them.
        periodic: whether it is defined only for structures that are periodic in three directions.
        voigt: whether files may also give it in Voigt order xx, yy, zz, yz, xz, xy.
        named_classes: whether a value is the index of one of the classes that the label names.
        activation: from logits to probabilities where a value is a class; None where it is a number.
        loss: from predictions, labels (NaN where missing), scale and the configured loss to the sum over labelled rows
            and their count.
        metrics: of training and validation, given the classes; updated with predictions and labels (n, *shape).

    Raises:
        ConfigError: shape, irreps and baseline are inconsistent.

    Example:
        >>> from molformer.targets import kind_of
        >>> kind_of("tensor").irreps, kind_of("tensor").components[:4]
        ('0e + 2e', ('xx', 'xy', 'xz', 'yx'))
    """

    name: str
    head: "Callable[[HeadOptions], Head] | None"
    shape: tuple[int, ...] = ()
    irreps: str = "0e"
    per_node: bool = False
    baseline: Baseline | None = None
    reads: int = 0
    derivative: Derivative | None = None
    periodic: bool = False
    voigt: bool = False
    named_classes: bool = False
    activation: "Callable[[Tensor], Tensor] | None" = None
    loss: "Callable[[Tensor, Tensor, Tensor, LossName], tuple[Tensor, Tensor]]" = _number_loss
    metrics: "Callable[[Sequence[str]], MetricCollection]" = _number_metrics

    def __post_init__(self) -> None:
        degrees = [degree for degree, _ in self._parts]
        size = sum(2 * degree + 1 for degree in degrees)
        matrix = self.shape == (3, 3) and len(degrees) == len({*degrees} & {0, 1, 2})
        if not degrees or not (matrix or self.shape == (size,) or (self.shape == () and size == 1)):
            raise ConfigError(
                f"kind '{self.name}': a value of irreps '{self.irreps}' cannot have shape {self.shape}; use ({size},), "
                "or (3, 3) for parts of a matrix"
            )
        if self.baseline and (len(self.shape) == 1 or 0 not in degrees):
            raise ConfigError(f"kind '{self.name}': only a number, or a matrix with a trace, has a baseline")
        if self.head is None and self.derivative is None:
            raise ConfigError(f"kind '{self.name}' needs a head, from which models read its values")

    @property
    def _parts(self) -> list[tuple[int, int]]:
        """Degree and parity of each irrep, multiples repeated; parsed here since importing e3nn takes a second."""
        found = [re.fullmatch(r"\s*(?:(\d+)x)?(\d+)([eo])\s*", part) for part in self.irreps.split("+")]
        if None in found:
            return []
        return [part for one in found if one for part in int(one[1] or 1) * [(int(one[2]), 1 if one[3] == "e" else -1)]]

    @property
    def lmax(self) -> int:
        """Highest degree of a value or of what its head reads: the lowest `lmax` of the features for its readout."""
        return max(self.reads, *(degree for degree, _ in self._parts))

    @property
    def is_class(self) -> bool:
        """Whether a value is a class rather than a quantity."""
        return self.activation is not None

    @property
    def additive(self) -> bool:
        """Whether it is a scalar that is a sum over atoms, such as an energy."""
        return self.baseline == "sum" and not self.shape

    def same_values(self, other: "TargetKind") -> bool:
        """Whether values of another kind are of the same sort, however they are read out: such as any two scalars."""
        facts = attrgetter("shape", "irreps", "per_node", "is_class", "named_classes", "periodic")
        return bool(facts(self) == facts(other))

    @property
    def identity(self) -> "np.ndarray | float":
        """Factor of the coefficients of a `baseline`."""
        return np.eye(3) if self.shape == (3, 3) else 1.0

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Names of the components, in the order of a flat value; empty for a number."""
        axes = ["xyz" if size == 3 else [str(place) for place in range(size)] for size in self.shape]
        return tuple(map("".join, product(*axes))) if axes else ()

    @cached_property
    def symmetry(self) -> "Irreps":
        """The irreps as an object of e3nn."""
        from e3nn.o3 import Irreps

        return Irreps(self.irreps)

    @cached_property
    def basis(self) -> np.ndarray:
        """Orthonormal change of basis (D, *shape): component i of a value is its product with basis[i]."""
        from molformer.so3 import wigner_3j

        if self.shape != (3, 3):
            return np.eye(prod(self.shape)).reshape(-1, *self.shape)
        parts = [sqrt(2 * degree + 1) * wigner_3j(1, 1, degree).transpose(2, 0, 1) for degree, _ in self._parts]
        return np.concatenate(parts)

    def rotated(self, values: "Tensor", rotation: "Tensor") -> "Tensor":
        """Values transformed by a rotation or reflection of the structure, projected onto the irreps.

        Args:
            values: (…, *shape); of classes the logits.
            rotation: orthogonal matrix (3, 3).

        Example:
            >>> import torch
            >>> from molformer.targets import kind_of
            >>> mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
            >>> kind_of("vector").rotated(torch.tensor([1.0, 2.0, 3.0]), mirror).round(decimals=5).tolist()
            [-1.0, 2.0, 3.0]
        """
        import torch

        from molformer.so3 import wigner_blocks

        if self.irreps == "0e":
            return values
        # As e3nn's `D_from_matrix`, which is exact only to float32 where that is torch's default.
        rotation = rotation.double().cpu()
        sign = rotation.det().sign()
        blocks = wigner_blocks(sign * rotation, self.lmax)
        turn = torch.block_diag(*[blocks[degree] * (sign if parity < 0 else 1) for degree, parity in self._parts])
        basis = torch.from_numpy(self.basis.reshape(len(self.basis), -1))
        matrix = basis.T @ turn @ basis
        flat = values.reshape(*values.shape[: values.ndim - len(self.shape)], -1)
        return (flat @ matrix.T.to(values)).reshape(values.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether files may give a value in this shape; a matrix may be flat."""
        return (
            shape == self.shape
            or (self.voigt and shape == (6,))
            or (len(self.shape) > 1 and shape == (prod(self.shape),))
        )
