"""Empirical coverage of prediction intervals, and the errors of molecules called out of domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from molformer.uncertainty.calibration import Assessment

THIRDS = {"size": ("small", "medium", "large"), "width": ("narrow", "middle", "wide")}
"""Names of the thirds of molecules by number of atoms and by half-width."""


@dataclass(frozen=True)
class Coverage:
    """Empirical coverage of the prediction intervals of a target.

    Args:
        level: nominal coverage.
        half_width: mean half-width of the intervals, in the unit of the target.
        share: empirical coverage, the fraction of labels within the intervals.
        count: number of labels.
        far: share of the molecules that are out of domain by their expected error.
        groups: mean half-width and coverage by geometry method, third of sizes and third of widths; empty for values of
            atoms and components.
        far_ratio: mean error of molecules that are out of domain, relative to that of the others; NaN without any.
    """

    level: float
    half_width: float
    share: float
    count: int
    far: float
    groups: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    far_ratio: float = np.nan


def coverage(
    assessments: Sequence[Assessment],
    level: float,
    values: Mapping[str, tuple[np.ndarray, np.ndarray]],
    sizes: np.ndarray,
    geometries: np.ndarray,
) -> dict[str, Coverage]:
    """Empirical coverage of the intervals by target name, for targets that have them.

    Args:
        assessments: of the molecules by each model of an ensemble, of which the widest interval counts.
        level: nominal coverage.
        values: by target name: predictions and labels, in the unit of the target, NaN where a label is missing.
        sizes: numbers of atoms (B,).
        geometries: geometry methods (B,).
    """
    measured = {}
    far = assessments[0].far
    for name in [name for name in values if all(name in each.half_widths for each in assessments)]:
        widths = np.max([each.half_widths[name] for each in assessments], axis=0)
        errors = np.abs(values[name][0] - values[name][1])
        known = np.isfinite(errors)
        if not known.any():
            continue
        if errors.shape != widths.shape:  # components or values of atoms, whose half-width is constant
            share = float((errors[known] <= widths[0]).mean())
            measured[name] = Coverage(level, float(widths[0]), share, int(known.sum()), float(far.mean()))
            continue
        inside = errors <= widths
        groups = {str(method): geometries == method for method in np.unique(geometries[known])}
        groups |= _thirds(sizes, known, THIRDS["size"])
        if np.ptp(widths[known]) > 0:
            groups |= _thirds(widths, known, THIRDS["width"])
        found = {
            group: (float(widths[known & rows].mean()), float(inside[known & rows].mean()))
            for group, rows in groups.items()
            if (known & rows).any()
        }
        ratio = np.nan
        if (known & far).any() and (known & ~far).any():
            ratio = float(errors[known & far].mean() / max(errors[known & ~far].mean(), 1e-300))
        mean, share = float(widths[known].mean()), float(inside[known].mean())
        measured[name] = Coverage(level, mean, share, int(known.sum()), float(far.mean()), found, ratio)
    return measured


def coverage_table(measured: Mapping[str, Coverage]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table: the empirical coverage, % and the mean half-width of each group of each target."""
    groups = list(dict.fromkeys(group for each in measured.values() for group in each.groups))
    rows = []
    for name, found in measured.items():
        cells = [(found.half_width, found.share), *(found.groups.get(group) for group in groups)]
        texts = ["" if cell is None else f"{100 * cell[1]:.1f} ±{cell[0]:.3g}" for cell in cells]
        rows.append([name, *texts, "" if np.isnan(found.far_ratio) else f"{found.far_ratio:.1f} ×"])
    return ["target", "all", *groups, "error outside"], rows


def _thirds(values: np.ndarray, known: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Masks (B,) of three parts of equal numbers of known molecules, but for equal values."""
    part = np.searchsorted(np.quantile(values[known], [1 / 3, 2 / 3]), values)
    return {name: part == place for place, name in enumerate(names)}
