"""PredictionRequest: the targets to predict and their output units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from molformer import units
from molformer.errors import ConfigError, UnitError
from molformer.targets import Label

DISPLACEMENT = "displacement"
"""Name of the target that refines geometries, see `refinement`; predicted if it is named, or the only target."""


def is_displacement(target: Label) -> bool:
    """Whether it is the target that refines geometries."""
    return (target.name, target.kind, target.unit) == (DISPLACEMENT, "atom_vector", "Å")


@dataclass(frozen=True)
class PredictionRequest:
    """Targets and output units of a prediction.

    Args:
        targets: to predict, with the units of the model.
        shown: the same targets, with the output units.
        factors: conversion factors from the units of the model to the output units.
    """

    targets: tuple[Label, ...]
    shown: tuple[Label, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(
        cls, known: Sequence[Label], names: Sequence[str] = (), unit: str | Mapping[str, str] | None = None
    ) -> "PredictionRequest":
        """A request for some targets of a model.

        Args:
            known: the targets of the model.
            names: of the targets to predict; all if empty, without `DISPLACEMENT`.
            unit: output units by target name; or one unit, used for all targets of its dimension.

        Raises:
            ConfigError: there is no such target.
            UnitError: a unit is unknown, or measures another quantity.
        """
        available = {target.name: target for target in known}
        names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        for name in [*names, *(unit if isinstance(unit, Mapping) else ())]:
            if name not in available:
                raise ConfigError(f"there is no target '{name}'; the model predicts {', '.join(available)}")
        shown_by_default = [target.name for target in known if not is_displacement(target)] or available
        targets = tuple(available[name] for name in names or shown_by_default)
        wanted = _units(targets, unit)
        shown = tuple(replace(one, unit=wanted[one.name]) if one.name in wanted else one for one in targets)
        factors = tuple(units.factor(old.unit, new.unit) for old, new in zip(targets, shown, strict=True))
        return cls(targets, shown, factors)

    def only(self, known: Sequence[Label]) -> "PredictionRequest":
        """The part of the request that these targets answer."""
        rows = [row for row in zip(self.targets, self.shown, self.factors, strict=True) if row[0] in known]
        return PredictionRequest(*(tuple(row[place] for row in rows) for place in range(3)))  # type: ignore[arg-type]


def _units(targets: Sequence[Label], unit: str | Mapping[str, str] | None) -> Mapping[str, str]:
    if not isinstance(unit, str):
        return unit or {}
    dimension = units.dimension(unit)
    fitting = [target.name for target in targets if not target.is_class and units.dimension(target.unit) == dimension]
    if not fitting:
        there = ", ".join(f"{target.name} ({target.unit})" if target.unit else target.name for target in targets)
        raise UnitError(f"'{unit}' measures {dimension}, and no target does: {there}")
    return dict.fromkeys(fitting, unit)
