"""Subsampling, normalisation and augmentation of point clouds: noise and dropout, in training.

Rotations and translations are not needed, since the model is equivariant. Reflections are omitted, as they change the
shape under SE(3).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from molformer.errors import ConfigError, check_choices

Sampling = Literal["random", "farthest", "all"]

FEWEST_POINTS = 4  # smallest number of points, which span space


@dataclass(frozen=True)
class PointAugmentation:
    """Random augmentation of a cloud.

    Raises:
        ConfigError: a value is out of its range.

    Example:
        >>> len(PointAugmentation(dropout=0.5).choose(2, np.random.default_rng(0)))
        2
    """

    jitter: float = 0.0  # standard deviation of the noise of each coordinate, in the unit of the positions
    dropout: float = 0.0  # largest fraction of dropped points, 0 to 1; the fraction is drawn uniformly

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < np.inf:
            raise ConfigError(f"jitter {self.jitter}: use a length of at least 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout}: use a share from 0 to below 1")

    def choose(self, points: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the retained points of a cloud, ascending."""
        left = points - int(rng.uniform(0, self.dropout) * points) if self.dropout else points
        left = max(left, min(points, FEWEST_POINTS))
        return np.sort(rng.choice(points, size=left, replace=False)) if left < points else np.arange(points)

    def move(self, pos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Positions (n, 3) of one cloud with noise."""
        return (pos + self.jitter * rng.standard_normal(pos.shape)).astype(pos.dtype) if self.jitter else pos


@dataclass(frozen=True)
class CloudOptions:
    """Preprocessing of point clouds.

    Raises:
        ConfigError: a value is out of its range.
    """

    points: int = 1024  #: largest number of points of a cloud
    sampling: Sampling = "random"  #: `random`; `farthest`, which covers a shape more uniformly; `all` ignores `points`
    normalise: bool = True  #: center each cloud and scale it to the unit sphere
    augmentation: PointAugmentation | None = None  #: applied to the training part after normalisation; None for none

    def __post_init__(self) -> None:
        check_choices(self)
        if self.points < 1:
            raise ConfigError(f"{self.points} points of a cloud: use at least 1")
