"""Total charge and multiplicity by any of their names, and dummy atoms, for several readers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from molformer.errors import InputError

CHARGE = ("charge", "total_charge", "net_charge", "tot_charge", "totalcharge", "molecular_charge", "mol_charge")
SPIN = ("spin", "multiplicity", "spin_multiplicity", "mult", "spinmultiplicity")


def whole_number(values: Mapping[str, Any], names: tuple[str, ...], default: float) -> int:
    """The integer that a mapping has under one of several names.

    Raises:
        InputError: it is not a whole number, or is there twice with different values.

    Example:
        >>> whole_number({"Charge": 1, "gap": 2.5}, CHARGE, 0)
        1
    """
    found = {str(name): values[name] for name in values if _plain(str(name)) in names}
    numbers = set()
    for name, value in found.items() or {names[0]: default}.items():
        try:
            number = float(value) if np.ndim(value) == 0 else np.nan
        except (TypeError, ValueError):
            number = np.nan
        if not abs(number - np.rint(number)) < 1e-3 or abs(number) > 1000:
            raise InputError(f"{name} '{value}' is not a whole number")
        numbers.add(int(np.rint(number)))
    if len(numbers) > 1:
        raise InputError(f"{' and '.join(f'{name} {value}' for name, value in found.items())} contradict each other")
    return numbers.pop()


def refuse_placeholders(numbers: np.ndarray) -> None:
    """Refuse atomic numbers (n,) of 0, which stand for dummy atoms (X).

    Raises:
        InputError: there is one.
    """
    if not numbers.all():
        raise InputError("an atom is a placeholder (X or number 0) and no element: replace it or leave it out")


def is_state(name: str) -> bool:
    """Whether a name is one of a charge or a multiplicity."""
    return _plain(name) in (*CHARGE, *SPIN)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
