"""Calibration of a model: half-widths of its intervals, and the distances by which its applicability domain is judged.

The distance of a molecule to the training set is the Euclidean distance to the nearest of some training molecules, in
the space of standardised invariant features; it is reported as a percentile of the distances of validation molecules.
Letters: B graphs, R reference molecules, V validation molecules, F invariant features.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from molformer.data.drafts import writing
from molformer.errors import DAMAGE, ModelError, one_line
from molformer.models.forward import threads

FILE = "reference.safetensors"
"""Name of the file in a model folder."""

FORMAT = 1
"""Version of the file."""

FEWEST = 20
"""Number of validation molecules from which on percentiles are reported."""

FAR = 0.01
"""Significance level of the test for molecules too far from the training set."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Interval half-widths of a model and reference molecules of its training set.

    Args:
        half_widths: of the intervals, by target name, in the model's unit; targets without intervals are absent.
        level: nominal coverage of the intervals.
        references: standardised features of training molecules (R, F).
        mean: of the features of the training molecules (F,), subtracted.
        scale: standard deviation of these features (F,), by which they are divided.
        distances: of the validation molecules to the nearest reference, ascending (V,).
        charges: total charges in the training set.
        spins: multiplicities in the training set.
        geometries: origins of the validation geometries, see `Structure.geometry`; empty if unknown.
    """

    half_widths: Mapping[str, float]
    level: float
    references: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    distances: np.ndarray
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()
    geometries: tuple[str, ...] = ()

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance (B,) of molecules with features (B, F) to the nearest reference."""
        standard = torch.from_numpy((features - self.mean) / self.scale)
        # Thread synchronisation would take longer than the model for a single molecule.
        with threads(1 if len(features) == 1 else torch.get_num_threads()):
            return torch.cdist(standard, torch.from_numpy(self.references)).amin(1).numpy()

    def percentile(self, distance: float) -> float | None:
        """Percentage of validation molecules at this distance or less; None if there are fewer than `FEWEST`."""
        if len(self.distances) < FEWEST:
            return None
        return 100.0 * float(np.searchsorted(self.distances, distance, side="right")) / len(self.distances)

    def is_far(self, distance: float) -> bool:
        """Whether a molecule exchangeable with the validation set is this far with a probability of at most `FAR`."""
        count = len(self.distances)
        beyond = count - int(np.searchsorted(self.distances, distance, side="left"))
        return count >= FEWEST and (1 + beyond) / (1 + count) <= max(FAR, 1 / (1 + count))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the file into a model folder; it appears whole or not at all.

        Raises:
            ModelError: it cannot be written.
        """
        path = Path(folder) / FILE
        part = path.with_name(f".{FILE}.part")
        about = {
            "format": FORMAT,
            "level": self.level,
            "half_widths": dict(self.half_widths),
            "charges": list(self.charges),
            "spins": list(self.spins),
            "geometries": list(self.geometries),
        }
        arrays: dict[str, np.ndarray] = {
            "references": self.references.astype(np.float16),
            "mean": self.mean.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "distances": self.distances.astype(np.float32),
        }
        with writing(path, ModelError):
            part.write_bytes(save(arrays, metadata={"molformer.calibration": json.dumps(about)}))
            os.replace(part, path)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Calibration | None":
        """Read the file of a model folder; None if there is none.

        Raises:
            ModelError: it is damaged or of a newer format.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["molformer.calibration"])
                arrays = {name: file.get_tensor(name) for name in ("references", "mean", "scale", "distances")}
            if about["format"] > FORMAT:
                raise ModelError(f"'{path}' was written by a newer molformer: install that")
            found = cls(
                half_widths={str(name): float(width) for name, width in about["half_widths"].items()},
                level=float(about["level"]),
                charges=tuple(int(charge) for charge in about["charges"]),
                spins=tuple(int(spin) for spin in about["spins"]),
                geometries=tuple(str(geometry) for geometry in about["geometries"]),
                **{name: array.astype(np.float64) for name, array in arrays.items()},
            )
            found._check()
        except (SafetensorError, *DAMAGE) as error:
            raise ModelError(f"'{path}' is damaged: {one_line(error)}") from None
        return found

    def _check(self) -> None:
        """Raise `ValueError` if values are not finite or shapes are inconsistent."""
        width = self.references.shape[-1:]
        if self.references.ndim != 2 or not self.mean.shape == self.scale.shape == width or self.distances.ndim != 1:
            raise ValueError("its arrays do not fit each other")
        arrays = [self.references, self.mean, self.scale, self.distances, np.array([*self.half_widths.values()])]
        if not all(np.isfinite(each).all() for each in arrays) or not (self.scale > 0).all():
            raise ValueError("a number is not finite, or a scale not positive")
        if not 0 < self.level < 1 or min(self.half_widths.values(), default=0.0) < 0 or not len(self.references):
            raise ValueError("its intervals or references are none")


def joint(calibrations: Sequence[Calibration | None]) -> Calibration | None:
    """Calibration of an ensemble: that of the first member, with the largest half-widths; None if a member has none."""
    known = [each for each in calibrations if each is not None]
    if not known or len(known) < len(calibrations):
        return None
    names = set.intersection(*(set(each.half_widths) for each in known))
    return replace(
        known[0], half_widths={name: max(each.half_widths[name] for each in known) for name in sorted(names)}
    )
