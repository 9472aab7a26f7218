"""What a model says: Value and Prediction, the row of an input.

Every doubt is named for what it is: `conformer_std`, `ensemble_std` and `interval` answer different questions.
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
"""What became of an input. Rows that are `ok` or `out_of_domain` have values, the others have none."""


@dataclass(frozen=True, eq=False)
class Value:
    """A predicted value.

    Args:
        value: (), or (3,) for a vector, (3, 3) for a tensor or stress (NaN where the structure is not periodic), (n,)
            for charges, (n, 3) for forces and other vectors of n atoms; the probability of 1 for a binary target, (K,)
            probabilities of the classes of a category, (n, K) of one of atoms.
        unit: its unit.
        conformer_std: standard deviation over the conformers of a molecule; of the length of a vector or tensor, which
            turns with its geometry. None if there was one geometry.
        ensemble_std: standard deviation over the models of an ensemble, of each component; None for a single model.
        interval: lower and upper end of the interval that held the truth for 90 % of the validation set; None for
            classes, out of domain, and where the model does not know it.
    """

    value: np.ndarray
    unit: str
    conformer_std: np.ndarray | None = None
    ensemble_std: np.ndarray | None = None
    interval: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def std(self) -> np.ndarray | None:
        """Standard deviation over models and conformers together, of a value without a direction; None if unknown."""
        parts = [part for part in (self.conformer_std, self.ensemble_std) if part is not None]
        parts = [part for part in parts if part.shape == self.value.shape]
        return np.sqrt(np.sum(np.square(parts), axis=0)) if parts else None

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        doubt = "" if self.std is None or self.std.shape else f" ± {self.std:.2g}"
        return f"{np.array2string(self.value, precision=4)}{doubt} {self.unit}".rstrip()


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one input.

    Args:
        name: the SMILES, or the file and frame.
        status: `ok`; `out_of_domain`, with values that should not be relied on; or why there are no values.
        message: the reason, in a sentence; empty if ok.
        structure: the geometry that was used, the best of several.
        values: by target name.
        percentile: share of the validation set, in %, that lies as near to the training set as this molecule, in the
            space of the model's features; None if the model does not know it.
    """

    name: str
    status: Status
    message: str = ""
    structure: Structure | None = None
    values: dict[str, Value] = field(default_factory=dict)
    percentile: float | None = None

    def __getitem__(self, target: str) -> Value:
        if target in self.values:
            return self.values[target]
        if not self.values:
            raise InputError(f"{self.name} has no values: {self.message}")
        raise ConfigError(f"there is no target '{target}'; there are {', '.join(self.values)}")
