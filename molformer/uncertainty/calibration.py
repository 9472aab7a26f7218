"""Calibration: what a model's validation set says of its doubts.

Intervals are those of split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018, arXiv 1604.04173): with
the k-th smallest |error| of n validation values, k = ⌈(n+1) level⌉, as half-width, an interval holds the truth of a
value of the same kind with a probability of at least `level`. How far a molecule is from the training set is its
distance to the nearest of some training molecules in the space of invariant features, as a percentile of those of the
validation molecules.
Letters: B graphs, R reference molecules, V validation molecules, F invariant features.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from molformer.data.drafts import writing
from molformer.data.sampling import farthest
from molformer.errors import DAMAGE, ModelError, one_line
from molformer.graph import GraphBatch
from molformer.inference.features import invariant_features
from molformer.inference.forward import run_graph, threads
from molformer.models.property import PropertyModel

FILE = "reference.safetensors"
"""Name of the file in a model folder."""

FORMAT = 1
"""Version of the file."""

FEWEST = 20
"""Validation molecules from which on a percentile is given."""

FAR = 0.01
"""Share of molecules like those of the validation set that are taken to be too far from the training set."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of a model's errors and of the molecules that it was trained on.

    Args:
        half_widths: of the intervals, by target name, in the model's unit; targets without one are absent.
        level: share of the truth that the intervals hold.
        references: standardised features of training molecules (R, F).
        mean: what was subtracted from the features (F,).
        scale: by what they were divided (F,).
        distances: of the validation molecules to the nearest reference, ascending (V,).
        charges: total charges that occurred in training.
        spins: multiplicities that occurred in training.
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
        standard = (features - self.mean) / self.scale
        references, squares = self._single
        # Waking other threads for one molecule would take longer than the model does.
        with threads(1 if len(features) == 1 else torch.get_num_threads()):
            rows = torch.from_numpy(standard.astype(np.float32))
            nearest = torch.addmm(squares, rows, references.T, alpha=-2).argmin(1).numpy()
        return np.linalg.norm(standard - self.references[nearest], axis=1)

    @cached_property
    def _single(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The references and their squares in single precision, which tells which is the nearest."""
        references = torch.from_numpy(self.references.astype(np.float32))
        return references, references.square().sum(1)

    def percentile(self, distance: float) -> float | None:
        """Share of the validation molecules, in %, that are at most so far; None if they are too few to say."""
        if len(self.distances) < FEWEST:
            return None
        return 100.0 * float(np.searchsorted(self.distances, distance, side="right")) / len(self.distances)

    def is_far(self, distance: float) -> bool:
        """Whether no more than a share `FAR` of molecules like those of the validation set would be as far."""
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
        """Refuse numbers that are not finite, and shapes that do not fit each other, with a `ValueError`."""
        width = self.references.shape[-1:]
        if self.references.ndim != 2 or not self.mean.shape == self.scale.shape == width or self.distances.ndim != 1:
            raise ValueError("its arrays do not fit each other")
        arrays = [self.references, self.mean, self.scale, self.distances, np.array([*self.half_widths.values()])]
        if not all(np.isfinite(each).all() for each in arrays) or not (self.scale > 0).all():
            raise ValueError("a number is not finite, or a scale not positive")
        if not 0 < self.level < 1 or min(self.half_widths.values(), default=0.0) < 0 or not len(self.references):
            raise ValueError("its intervals or references are none")


def calibrate(
    model: PropertyModel,
    train: Iterable[GraphBatch],
    val: Iterable[GraphBatch],
    level: float = 0.9,
    references: int = 512,
    charges: Iterable[int] = (),
    spins: Iterable[int] = (),
    geometries: Iterable[str] = (),
) -> Calibration:
    """Measure a trained model on its validation set.

    Args:
        model: is put into evaluation mode.
        train: batches of training molecules; all are looked at.
        val: batches of the validation set, with labels; without any there are no intervals and no percentiles.
        level: of the intervals.
        references: training molecules that are kept: those that lie farthest from each other, so that rare ones count.
        charges: total charges of the whole training set; else those of the molecules that are looked at.
        spins: its multiplicities; else 1 and, if a molecule has an odd number of electrons, 2.
        geometries: origins of the validation geometries; else those of the model's domain.
    """
    model.eval()
    device = next(model.parameters()).device
    seen_charges, seen_spins = set(charges), set(spins)
    count_charges, count_spins = not seen_charges, not seen_spins
    looked_at = []
    for graph in train:
        graph = graph.to(device)
        looked_at.append(_molecule_features(graph, run_graph(model, graph, [])[1]))
        if count_charges:
            seen_charges |= {round(charge) for charge in graph.charge.tolist()}
        if count_spins:
            electrons = graph.sum_over_graphs(graph.numbers) - graph.charge.round().long()
            seen_spins |= {1} | ({2} if (electrons % 2).any() else set())
    train_features = np.concatenate(looked_at)
    mean, scale = train_features.mean(0), train_features.std(0)
    scale = np.maximum(scale, 0.01 * max(float(scale.max()), 1e-6))  # a feature that hardly varies tells little
    standard = (train_features - mean) / scale
    if len(standard) > references:
        standard = standard[farthest(standard.astype(np.float32), references, int(np.square(standard).sum(1).argmin()))]
    kept = standard.astype(np.float16).astype(np.float64)
    part = Calibration(
        {},
        level,
        kept,
        mean,
        scale,
        np.zeros(0),
        tuple(sorted(seen_charges)),
        tuple(sorted(seen_spins)),
        tuple(geometries) or model.domain.geometries,
    )
    distances, errors = [np.zeros(0)], {target.name: [np.zeros(0)] for target in model.targets if not target.is_class}
    for graph in val:
        graph = graph.to(device)
        values, x = run_graph(model, graph, model.targets)
        distances.append(part.distance(_molecule_features(graph, x)))
        for name in errors.keys() & graph.labels.keys():
            difference = (values[name].double() - graph.labels[name].double()).abs()
            errors[name].append(difference[difference.isfinite()].cpu().numpy())
    widths = {name: half_width(np.concatenate(parts), level) for name, parts in errors.items()}
    return replace(
        part,
        distances=np.sort(np.concatenate(distances)),
        half_widths={name: width for name, width in widths.items() if math.isfinite(width)},
    )


def half_width(errors: np.ndarray, level: float) -> float:
    """Half-width of a split-conformal interval from absolute errors (n,); infinite if they are too few.

    Example:
        >>> half_width(np.arange(1.0, 10.0), 0.9), half_width(np.arange(1.0, 9.0), 0.9)
        (9.0, inf)
    """
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    return float(np.partition(errors, rank - 1)[rank - 1]) if 0 < rank <= len(errors) else math.inf


@dataclass(frozen=True)
class Coverage:
    """How often intervals hold the truth.

    Args:
        level: what they promise.
        half_width: of the intervals, in the unit of the target.
        share: of the values that they hold.
        count: values that were looked at.
    """

    level: float
    half_width: float
    share: float
    count: int


def coverage(calibration: Calibration, values: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Coverage]:
    """Measured coverage of the intervals, by target name, of targets that have them.

    Args:
        calibration: of the model.
        values: by target name: predictions and labels, in the unit of the target, NaN where a label is missing.
    """
    measured = {}
    for name, width in calibration.half_widths.items():
        if name not in values:
            continue
        errors = np.abs(values[name][0] - values[name][1])
        errors = errors[np.isfinite(errors)]
        if len(errors):
            measured[name] = Coverage(calibration.level, width, float((errors <= width).mean()), len(errors))
    return measured


def _molecule_features(graph: GraphBatch, x: torch.Tensor) -> np.ndarray:
    """Mean over the atoms of the invariant features (N, M, C): (B, F)."""
    return graph.mean_over_graphs(invariant_features(x).double()).cpu().numpy()
