"""Question: which targets are wanted, in which units, and how doubts about them are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from molformer import units
from molformer.data.structure import Label
from molformer.errors import ConfigError, UnitError


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    Args:
        targets: those of the model that are wanted.
        shown: the same, with the units in which values are given.
        factors: from the model's units to those.
    """

    targets: tuple[Label, ...]
    shown: tuple[Label, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(
        cls, known: Sequence[Label], names: Sequence[str] = (), unit: str | Mapping[str, str] | None = None
    ) -> "Question":
        """The question about some targets of a model.

        Args:
            known: the targets of the model.
            names: of the wanted ones, each once; all if empty.
            unit: of single targets by their names; or one unit, in which all targets that it can measure are given.

        Raises:
            ConfigError: there is no such target.
            UnitError: a unit is unknown, or measures another quantity.
        """
        available = {target.name: target for target in known}
        names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        for name in [*names, *(unit if isinstance(unit, Mapping) else ())]:
            if name not in available:
                raise ConfigError(f"there is no target '{name}'; the model predicts {', '.join(available)}")
        targets = tuple(available[name] for name in names or available)
        wanted = _units(targets, unit)
        shown = tuple(replace(one, unit=wanted[one.name]) if one.name in wanted else one for one in targets)
        factors = tuple(units.factor(old.unit, new.unit) for old, new in zip(targets, shown, strict=True))
        return cls(targets, shown, factors)


def _units(targets: Sequence[Label], unit: str | Mapping[str, str] | None) -> Mapping[str, str]:
    if not isinstance(unit, str):
        return unit or {}
    dimension = units.dimension(unit)
    fitting = [target.name for target in targets if not target.is_class and units.dimension(target.unit) == dimension]
    if not fitting:
        there = ", ".join(f"{target.name} ({target.unit})" if target.unit else target.name for target in targets)
        raise UnitError(f"'{unit}' measures {dimension}, and no target does: {there}")
    return dict.fromkeys(fitting, unit)
