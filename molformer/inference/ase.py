"""MolformerCalculator: a model as an ASE calculator, for relaxations and dynamics.

Energies are in eV, forces in eV/Å, stress in eV/Å³ (as six numbers xx, yy, zz, yz, xz, xy), dipoles in e·Å, charges in
e, the conventions of ASE. Positions are used without preprocessing, so that energies are smooth along a trajectory.
"""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from molformer import units
from molformer.data.readers.objects import from_ase
from molformer.errors import ConfigError
from molformer.models.forward import run
from molformer.models.property import PropertyModel
from molformer.targets import Label
from molformer.uncertainty.applicability import unsupported

_UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3", "dipole": "e·Å", "charges": "e"}
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class MolformerCalculator(Calculator):
    """Energy, forces, stress, dipole and charges of a model, as far as it predicts them.

    Args:
        model: a copy of it is used if it has another floating-point type.
        dtype: `float32` or `float64`.
        options: of ASE's `Calculator`.

    Raises:
        ConfigError: the model predicts no property of ASE, or `dtype` is unknown.
    """

    implemented_properties: ClassVar[list[str]] = list(_UNITS)

    def __init__(self, model: PropertyModel, dtype: str = "float32", **options: Any) -> None:
        super().__init__(**options)
        if dtype not in _DTYPES:
            raise ConfigError(f"dtype is '{dtype}'; choose one of {', '.join(_DTYPES)}")
        if model.config.hydrogens == "implicit" or model.descriptor_set:
            what = "descriptors" if model.descriptor_set else "heavy atoms alone (hydrogens: implicit)"
            raise ConfigError(f"the model takes {what}, and ASE has no bonds")
        self._targets = _targets_of(model)
        if not self._targets:
            there = ", ".join(f"{target.name} ({target.kind})" for target in model.targets)
            raise ConfigError(f"the model predicts {there}: nothing that ASE asks a calculator for")
        self.implemented_properties = list(self._targets)  # type: ignore[misc]
        same = next(model.parameters()).dtype == _DTYPES[dtype]
        self.model = model if same else deepcopy(model).to(_DTYPES[dtype])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties of these atoms; called by ASE.

        Raises:
            CalculatorSetupError: an element is unknown to the model, or a position is not a finite number.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        entry = from_ase(self.atoms)
        if entry.error is not None or entry.structure is None:
            raise CalculatorSetupError(str(entry.error))
        if error := unsupported(self.model.domain, entry.structure, entry.name):
            raise CalculatorSetupError(str(error))
        targets = [target for target in self._targets.values() if target.kind != "stress" or entry.structure.periodic]
        values = run(self.model, [entry.structure], targets)[0].values
        for name, target in self._targets.items():
            if target.name not in values:
                continue
            value = np.asarray(values[target.name], dtype=np.float64) * units.factor(target.unit, _UNITS[name])
            self.results[name] = full_3x3_to_voigt_6_stress(value) if name == "stress" else value
        if "energy" in self.results:
            self.results["energy"] = float(self.results["energy"])
            self.results["free_energy"] = self.results["energy"]


def _targets_of(model: PropertyModel) -> dict[str, Label]:
    """Targets of the model by the names of ASE's properties."""
    found: dict[str, Label] = {}
    with suppress(ConfigError):  # no energy, or it is not clear which
        found["energy"] = model.potential
    kinds = {"forces": "forces", "stress": "stress", "dipole": "vector", "charges": "charges"}
    for name, kind in kinds.items():
        quantity = units.dimension(_UNITS[name])
        of_kind = [target for target in model.targets if target.kind == kind]
        fitting = [target for target in of_kind if units.dimension(target.unit) == quantity]
        named = [target for target in fitting if target.name == name]
        if len(named or fitting) == 1:
            found[name] = (named or fitting)[0]
    return found
