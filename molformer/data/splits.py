"""Splitting a data set into training, validation and test part."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np

from molformer.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Indices of the structures in each part, ascending."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def to_dict(self) -> dict[str, list[int]]:
        """Plain lists, for JSON."""
        return {part: getattr(self, part).tolist() for part in ("train", "val", "test")}


def random_split(groups: np.ndarray, fractions: Sequence[float], seed: int) -> Split:
    """Split at random by group, so that geometries of one molecule are never on both sides.

    Args:
        groups: group of each structure (n,).
        fractions: share of the groups in training, validation and test; they add up to 1.
        seed: the same seed gives the same split on every machine.

    Raises:
        ConfigError: the fractions do not fit, or a part would be empty.

    Example:
        >>> split = random_split(np.arange(10), (0.8, 0.1, 0.1), seed=0)
        >>> len(split.train), len(split.val), len(split.test)
        (8, 1, 1)
    """
    if len(fractions) != 3 or min(fractions) < 0 or not isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ConfigError(f"split must be three fractions that add up to 1, such as [0.8, 0.1, 0.1]; got {fractions}")
    names, group = np.unique(groups, return_inverse=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    first, second = round(fractions[0] * len(names)), round((fractions[0] + fractions[1]) * len(names))
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = np.digitize(np.arange(len(names)), [first, second])
    parts = [np.flatnonzero(part_of_group[group] == part) for part in range(3)]
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if len(part) == 0:
            raise ConfigError(f"the {name} part of {len(names)} molecules would be empty: change `split`")
    return Split(*parts)
