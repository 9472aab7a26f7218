"""Units: physical dimensions and conversion factors; internal units are Å, eV, e and Debye.

Conversions are done in readers and predictors only. Constants: CODATA 2018.
"""

import re
from functools import lru_cache

from molformer.errors import UnitError

HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
E_ANGSTROM = 4.803204712570263  # Debye in one e·Å
CALORIE = 4.184  # J
KJ_MOL = 0.010364269656262175  # eV
KCAL_MOL = CALORIE * KJ_MOL
PASCAL = 6.241509074460763e-12  # eV/Å³
WAVENUMBER = 1.2398419843320026e-4  # eV

_SIZES: dict[str, dict[str, float]] = {
    "number": {"": 1.0, "1": 1.0},
    "energy": {
        "eV": 1.0,
        "meV": 1e-3,
        "Ha": HARTREE,
        "mHa": 1e-3 * HARTREE,
        "kcal/mol": KCAL_MOL,
        "kJ/mol": KJ_MOL,
        "cm^-1": WAVENUMBER,
    },
    "length": {"Å": 1.0, "nm": 10.0, "pm": 0.01, "a0": BOHR},
    "force": {
        "eV/Å": 1.0,
        "meV/Å": 1e-3,
        "Ha/a0": HARTREE / BOHR,
        "kcal/mol/Å": KCAL_MOL,
        "kJ/mol/Å": KJ_MOL,
        "kJ/mol/nm": 0.1 * KJ_MOL,
    },
    "pressure": {
        "eV/Å^3": 1.0,
        "meV/Å^3": 1e-3,
        "GPa": PASCAL * 1e9,
        "MPa": PASCAL * 1e6,
        "Pa": PASCAL,
        "kbar": PASCAL * 1e8,
        "bar": PASCAL * 1e5,
        "Ha/a0^3": HARTREE / BOHR**3,
        "kcal/mol/Å^3": KCAL_MOL,
        "kJ/mol/Å^3": KJ_MOL,
    },
    "velocity": {"Å/fs": 1.0, "Å/ps": 1e-3, "nm/ps": 1e-2, "m/s": 1e-5},
    "dipole": {"D": 1.0, "e·Å": E_ANGSTROM, "e·a0": E_ANGSTROM * BOHR},
    "quadrupole": {"D·Å": 1.0, "e·Å^2": E_ANGSTROM, "e·a0^2": E_ANGSTROM * BOHR**2},
    "charge": {"e": 1.0},
    "area": {"Å^2": 1.0, "a0^2": BOHR**2},
    "volume": {"Å^3": 1.0, "a0^3": BOHR**3},
    "heat capacity": {"eV/K": 1.0, "cal/mol/K": 1e-3 * KCAL_MOL, "J/mol/K": 1e-3 * KJ_MOL},
    "frequency": {"GHz": 1.0, "MHz": 1e-3},
}

_ALIASES = {"debye": "D", "hartree": "Ha", "eh": "Ha", "ev": "eV", "mev": "meV", "bohr": "a0", "dimensionless": ""}
_ALIASES |= dict.fromkeys(("angstrom", "ang"), "Å")

_DIMENSION = {unit: (dimension, size) for dimension, units in _SIZES.items() for unit, size in units.items()}


@lru_cache(1024)
def canonical(unit: str) -> str:
    """Canonical spelling of a unit.

    Raises:
        UnitError: the unit is not known.

    Example:
        >>> canonical("Hartree/Bohr")
        'Ha/a0'
    """
    text = unit.strip().replace("**", "^").replace("²", "^2").replace("³", "^3").replace("*", "·")
    parts = re.split(r"([·/^])", text)
    spelled = "".join(_ALIASES.get(part.lower(), part) for part in parts)
    if spelled not in _DIMENSION:
        known = ", ".join(name for name in _DIMENSION if name)
        raise UnitError(f"unknown unit '{unit}'; known units: {known}")
    return spelled


def dimension(unit: str) -> str:
    """The physical quantity that a unit measures, such as 'energy'."""
    return _DIMENSION[canonical(unit)][0]


def factor(source: str, target: str) -> float:
    """Conversion factor from `source` to `target` units.

    Raises:
        UnitError: a unit is unknown, or the dimensions differ.

    Example:
        >>> round(factor("Ha", "eV"), 6)
        27.211386
    """
    (source_dimension, source_size) = _DIMENSION[canonical(source)]
    (target_dimension, target_size) = _DIMENSION[canonical(target)]
    if source_dimension != target_dimension:
        raise UnitError(
            f"cannot convert '{source}' ({source_dimension}) to '{target}' ({target_dimension}): "
            f"choose a unit of {source_dimension}: {', '.join(_SIZES[source_dimension])}"
        )
    return source_size / target_size
