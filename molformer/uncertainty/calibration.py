"""Calibration of a model: half-widths of its intervals, and the scores by which its applicability domain is judged.

See `difficulty`. A calibration of format 1 has constant half-widths instead, and judges the distance of a molecule to
the nearest of some training molecules, in the space of standardised mean features, by those of validation molecules.
Letters: B molecules, N atoms, R reference molecules, V validation molecules, F invariant features.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from molformer.data.drafts import writing
from molformer.errors import DAMAGE, ModelError, one_line
from molformer.models.forward import threads
from molformer.uncertainty.difficulty import Difficulty, Distance, molecule_inputs

FILE = "reference.safetensors"
"""Name of the file in a model folder."""

FORMAT = 2
"""Version of the file; 1 has no `Difficulty`."""

FEWEST = 20
"""Number of validation molecules from which on percentiles are reported."""

FAR = 0.01
"""Share of molecules like those of the validation part that are called out of domain."""


class Assessment(NamedTuple):
    """What a calibration says of molecules.

    Args:
        half_widths: of their intervals, by target name (B,).
        percentiles: of their scores among those of validation molecules, % (B,); NaN if there are too few of these.
        far: whether a molecule exchangeable with the validation set has such a score with a probability of at most
            `FAR` (B,).
        reasons: the end of a sentence that says so, for each molecule.
    """

    half_widths: dict[str, np.ndarray]
    percentiles: np.ndarray
    far: np.ndarray
    reasons: list[str]


_APART = "its atoms are {:.1f} times as far from their element's mean as those of"
_REFERENCE = ("references", "mean", "scale", "distances")
"""Arrays of format 1."""
_ARRAYS = ("limits", "weights", "bounds", "edges", "ratios")
"""Those of a `Difficulty`."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Interval half-widths and applicability domain of a model.

    Args:
        half_widths: of the intervals, by target name, in the model's unit, where `difficulty` has none; targets without
            intervals are absent.
        level: nominal coverage of the intervals.
        references: standardised mean features of training molecules (R, F).
        mean: of the features of the training molecules (F,), subtracted.
        scale: standard deviation of these features (F,), by which they are divided.
        distances: of the validation molecules to the nearest reference, ascending (V,).
        charges: total charges in the training set.
        spins: multiplicities in the training set.
        geometries: origins of the validation geometries, see `Structure.geometry`; empty if unknown.
        difficulty: expected errors; None in format 1, which has the four arrays above instead.
    """

    half_widths: Mapping[str, float]
    level: float
    references: np.ndarray = field(default_factory=lambda: np.zeros(0))
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))
    distances: np.ndarray = field(default_factory=lambda: np.zeros(0))
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()
    geometries: tuple[str, ...] = ()
    difficulty: Difficulty | None = None

    @property
    def num_features(self) -> int:
        """Number of invariant features F of the model."""
        return len(self.mean) if self.difficulty is None else len(self.difficulty.distance.whitening)

    def inputs(self, features: np.ndarray, numbers: np.ndarray, sizes: Sequence[int] | np.ndarray) -> np.ndarray:
        """What `assess` takes of molecules (B, D), from the features (N, F) and atomic numbers (N,) of their atoms."""
        if self.difficulty is not None:
            return molecule_inputs(self.difficulty.distance, features.astype(np.float64), numbers, sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        return np.add.reduceat(features.astype(np.float64), starts) / np.asarray(sizes)[:, None]

    def assess(self, inputs: np.ndarray, geometries: Sequence[str]) -> Assessment:
        """Half-widths and domain of molecules.

        Args:
            inputs: see `inputs` (B, D).
            geometries: their origins (B,).
        """
        widths = {name: np.full(len(inputs), width) for name, width in self.half_widths.items()}
        if self.difficulty is None:
            standard = torch.from_numpy((inputs - self.mean) / self.scale)
            # Thread synchronisation would take longer than the model for a single molecule.
            with threads(1 if len(inputs) == 1 else torch.get_num_threads()):
                scores = torch.cdist(standard, torch.from_numpy(self.references)).amin(1).numpy()
            places = np.zeros(len(inputs), dtype=np.int64)
            known: tuple[np.ndarray, ...] = (self.distances,)
            reasons = ["it is farther from the training set than nearly all validation molecules"] * len(inputs)
        else:
            places, known = self.difficulty.places(geometries), self.difficulty.scores
            log_sigma, scores = self.difficulty.assess(inputs, places)
            widths |= self.difficulty.half_widths(log_sigma, places)
            what = "its expected error is {:.1f} times that of" if self.difficulty.targets else _APART
            ratios = np.exp(np.minimum(scores, 99.0))
            reasons = [f"{what.format(ratio)} molecules like those of training" for ratio in ratios]
        percentiles, far = np.full(len(inputs), np.nan), np.zeros(len(inputs), dtype=bool)
        for place, values in enumerate(known):
            mine, count = places == place, len(values)
            if count < FEWEST:
                continue
            percentiles[mine] = 100.0 * np.searchsorted(values, scores[mine], side="right") / count
            beyond = count - np.searchsorted(values, scores[mine], side="left")
            far[mine] = (1 + beyond) / (1 + count) <= max(FAR, 1 / (1 + count))
        return Assessment(widths, percentiles, far, reasons)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the file into a model folder; it appears whole or not at all.

        Raises:
            ModelError: it cannot be written.
        """
        path = Path(folder) / FILE
        part = path.with_name(f".{FILE}.part")
        about = {
            "format": FORMAT if self.difficulty else 1,
            "level": self.level,
            "half_widths": dict(self.half_widths),
            "charges": list(self.charges),
            "spins": list(self.spins),
            "geometries": list(self.geometries),
        }
        arrays = {name: getattr(self, name) for name in _REFERENCE}
        if found := self.difficulty:
            about |= {"methods": list(found.methods), "targets": list(found.targets)}
            arrays = {name: getattr(found, name) for name in _ARRAYS} | vars(found.distance)
            arrays |= {f"scores.{place}": values for place, values in enumerate(found.scores)}
        types = {"references": np.float16}
        arrays = {name: np.ascontiguousarray(each, types.get(name, np.float32)) for name, each in arrays.items()}
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
                arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
            if about["format"] > FORMAT:
                raise ModelError(f"'{path}' was written by a newer molformer: install that")
            difficulty = None
            if about["format"] > 1:
                methods = tuple(str(each) for each in about["methods"])
                difficulty = Difficulty(
                    Distance(*(arrays.pop(name) for name in ("elements", "centers", "whitening"))),
                    methods,
                    tuple(str(each) for each in about["targets"]),
                    scores=tuple(arrays.pop(f"scores.{place}") for place in range(len(methods))),
                    **{name: arrays.pop(name) for name in _ARRAYS},
                )
            found = cls(
                half_widths={str(name): float(width) for name, width in about["half_widths"].items()},
                level=float(about["level"]),
                charges=tuple(int(charge) for charge in about["charges"]),
                spins=tuple(int(spin) for spin in about["spins"]),
                geometries=tuple(str(geometry) for geometry in about["geometries"]),
                difficulty=difficulty,
                **arrays,
            )
            found._check()
        except (SafetensorError, *DAMAGE) as error:
            raise ModelError(f"'{path}' is damaged: {one_line(error)}") from None
        return found

    def _check(self) -> None:
        """Raise `ValueError` if values are not finite or shapes are inconsistent."""
        width = (self.num_features,)
        arrays = [self.references, self.mean, self.scale, self.distances, np.array([*self.half_widths.values()])]
        if found := self.difficulty:
            targets, methods = len(found.targets), len(found.methods)
            arrays += [*vars(found.distance).values(), found.limits, found.weights, found.ratios, *found.scores]
            fits = (
                found.distance.centers.shape == (*found.distance.elements.shape, *width)
                and found.distance.whitening.shape == 2 * width
                and found.limits.shape == (2, 3)
                and found.weights.shape == (targets + 1, width[0] + 3 + methods)
                and found.bounds.shape == (2, targets)
                and found.edges.shape == found.ratios[..., 1:].shape
                and found.ratios.shape[:2] == (targets, methods)
            )
        else:
            fits = self.references.shape[1:] == self.mean.shape == self.scale.shape and self.distances.ndim == 1
        if not fits:
            raise ValueError("its arrays do not fit each other")
        if not all(np.isfinite(each).all() for each in arrays) or not (self.scale > 0).all():
            raise ValueError("a number is not finite, or a scale not positive")
        known = self.references if self.difficulty is None else self.difficulty.distance.elements
        if not 0 < self.level < 1 or min(self.half_widths.values(), default=0.0) < 0 or not len(known):
            raise ValueError("its intervals or references are none")
