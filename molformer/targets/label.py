"""Label: name, unit and kind of a property of a data set or model."""

from dataclasses import asdict, dataclass
from typing import Any

from molformer import units
from molformer.errors import InputError
from molformer.targets.kind import TargetKind
from molformer.targets.registry import kind_of


def bounds_of(name: str) -> tuple[str, str]:
    """Names of the labels that hold the lower and the upper bounds of a label, in the same unit.

    Where a measurement only says that a value lies beyond a bound (`>5`), the value is missing and the bound is there,
    so that what knows nothing of bounds, such as a metric or a statistic, sees a missing value.
    """
    return f"{name}>", f"{name}<"


@dataclass(frozen=True)
class Label:
    """Name, unit and kind of one labelled property.

    Args:
        name: as in the data set, for instance `gap`.
        unit: a unit that `molformer.units` knows; empty for a pure number.
        kind: name of a `TargetKind`.
        classes: names of the classes of a `category` or `atom_category`, in the order of their indices.

    Raises:
        InputError: the kind is not known, or a category has no classes.
        UnitError: the unit is not known.

    Example:
        >>> Label("gap", "eV", "intensive").per_node
        False
    """

    name: str
    unit: str
    kind: str
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        try:
            named = self.target_kind.named_classes
        except InputError as error:
            raise InputError(f"label '{self.name}': {error}") from None
        object.__setattr__(self, "unit", units.canonical(self.unit))
        if named != bool(self.classes):
            needs = "needs the names of its classes" if named else "has no classes"
            raise InputError(f"label '{self.name}': a label of kind '{self.kind}' {needs}")

    @property
    def target_kind(self) -> TargetKind:
        """Its `TargetKind`."""
        return kind_of(self.kind)

    @property
    def per_node(self) -> bool:
        """Whether there is one value per atom (True) or per structure (False)."""
        return self.target_kind.per_node

    @property
    def is_class(self) -> bool:
        """Whether a value is a class rather than a quantity."""
        return self.target_kind.is_class

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: () for a number, (3,) for a vector, (3, 3) for a tensor or stress."""
        return self.target_kind.shape

    @property
    def is_energy(self) -> bool:
        """Whether it is an extensive energy, of which forces and stress can be derivatives."""
        return self.target_kind.additive and units.dimension(self.unit) == "energy"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "classes": list(self.classes)}
