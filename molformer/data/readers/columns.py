"""Labels of a file that has one array for all of its molecules, in the units that were asked for."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molformer import units
from molformer.data.known_labels import known_label, label_of_shape, shaped
from molformer.errors import InputError, UnitError
from molformer.targets import Label

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """What a file says of one property."""

    name: str  # its name
    shape: tuple[int, ...]  # of one value
    per_atom: bool  # whether there is one value an atom (N, …) or one a molecule (n, …)
    load: Callable[[], np.ndarray]  # reads the array
    unit: str = ""  # as the file says, empty if it does not


@dataclass(frozen=True)
class LabelColumn:
    """A column as a label: the file's unit is `factor` times that of the label."""

    label: Label
    column: Column
    factor: float = 1.0

    def values(self) -> np.ndarray:
        """All values, in the label's unit and shape."""
        values = self.column.load()
        return shaped(self.label, values, (len(values),)) * self.factor


def choose(path: Path, columns: Sequence[Column], targets: Sequence[Label]) -> list[LabelColumn]:
    """The columns that were asked for, in the units of the targets; all that can be labels, if none were.

    Where only one of file and target says a unit, it is the unit of the values.

    Raises:
        InputError: a target is not among the columns, or is not of its kind.
        UnitError: a unit is unknown, or the target's measures another quantity.
    """
    if not targets:
        found = [label_of_shape(column.name, column.shape, column.per_atom, column.unit) for column in columns]
        chosen = [LabelColumn(label, column) for label, column in zip(found, columns, strict=True) if label is not None]
        for label, column in ((item.label, item.column) for item in chosen):
            if label.unit not in (column.unit, "", "e") and not column.unit:
                logger.warning("'%s' does not say the unit of '%s'; taken as %s", path, label.name, label.unit)
        return chosen
    by_name = {column.name: column for column in columns}
    return [_as_target(path, by_name, target) for target in targets]


def _as_target(path: Path, columns: dict[str, Column], target: Label) -> LabelColumn:
    if target.name not in columns:
        raise InputError(f"'{path}' has no label '{target.name}'; its labels: {', '.join(columns) or 'none'}")
    column = columns[target.name]
    if target.per_node != column.per_atom or not target.target_kind.fits(column.shape):
        owner = "atom" if column.per_atom else "molecule"
        raise InputError(
            f"'{path}': '{target.name}' has a value of shape {column.shape} for each {owner}, which kind "
            f"'{target.kind}' is not"
        )
    if not column.unit:
        return LabelColumn(target, column)
    try:
        return LabelColumn(target, column, units.factor(column.unit, target.unit))
    except UnitError as error:
        raise UnitError(f"'{path}': label '{target.name}': {error}") from None


def may_be_label(name: str, kind: str, targets: Sequence[Label]) -> bool:
    """Whether an array is worth a look: it was asked for, has a known name, or holds real numbers."""
    return kind == "f" or known_label(name) is not None or name in {label.name for label in targets}
