"""Prediction, the result for one input, and Value, that of one target.

Three measures of uncertainty are reported separately: `conformer_std`, `ensemble_std` and `interval`.
Letters: n atoms, K classes.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from molformer.errors import ConfigError, InputError
from molformer.structure import Structure

Status = Literal[
    "ok", "invalid_input", "embedding_failed", "unsupported_element", "out_of_domain", "too_large", "not_finite"
]
"""Status of an input. Rows with `ok` or `out_of_domain` have values, the others have none."""

SHOWN = 4
"""Number of values in the representation of a prediction."""


@dataclass(frozen=True, eq=False)
class Value:
    """Predicted value of a target, with uncertainties.

    Args:
        value: (), or (3,) for a vector, (3, 3) for a tensor or stress (NaN where the structure is not periodic), (n,)
            for charges, (n, 3) for forces and other vectors of n atoms; the probability of 1 for a binary target, (K,)
            probabilities of the classes of a category, (n, K) of one of atoms.
        unit: its unit.
        conformer_std: standard deviation over the conformers of a molecule; of the norm of a vector or tensor, as the
            orientations of conformers are arbitrary. None for a single geometry.
        ensemble_std: standard deviation over the models of an ensemble, of each component; None for a single model.
        interval: lower and upper bound of the split-conformal prediction interval with a nominal coverage of 90 %; None
            for classes, out of domain, and for models without a calibration.
    """

    value: np.ndarray
    unit: str
    conformer_std: np.ndarray | None = None
    ensemble_std: np.ndarray | None = None
    interval: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def std(self) -> np.ndarray | None:
        """Combined standard deviation over models and conformers, for scalars; None if unknown."""
        parts = [part for part in (self.conformer_std, self.ensemble_std) if part is not None]
        parts = [part for part in parts if part.shape == self.value.shape]
        return np.sqrt(np.sum(np.square(parts), axis=0)) if parts else None

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        spread = "" if self.std is None or self.std.shape else f" ± {self.std:.2g}"
        return f"{np.array2string(self.value, precision=4)}{spread} {self.unit}".rstrip()


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted values for one input.

    Args:
        name: the SMILES, or the file and frame.
        status: `ok`; `out_of_domain`, with values that are unreliable; or the reason why there are no values.
        message: the reason, in a sentence; empty if ok.
        structure: the geometry used, of several conformers the first.
        values: by target name.
        percentile: of the molecule's expected error among those of validation molecules, in %; in calibrations of
            earlier versions, of its distance to the training set. None for models without a calibration.
        model: name of the model, where several may answer.
    """

    name: str
    status: Status
    message: str = ""
    structure: Structure | None = None
    values: dict[str, Value] = field(default_factory=dict)
    percentile: float | None = None
    model: str = ""

    def __repr__(self) -> str:
        shown = [f"{name} {value}" for name, value in self.values.items() if not value.value.shape][:SHOWN]
        more = len(self.values) - len(shown)
        reason = [self.status, *([] if self.values else [self.message])] if self.status != "ok" else []
        facts = [*reason, *shown, f"{more} more" if more else ""]
        return f"{type(self).__name__}({self.name}: {', '.join(filter(None, facts))})"

    def __getitem__(self, target: str) -> Value:
        if target in self.values:
            return self.values[target]
        if not self.values:
            raise InputError(f"{self.name} has no values: {self.message}")
        raise ConfigError(f"there is no target '{target}'; there are {', '.join(self.values)}")
