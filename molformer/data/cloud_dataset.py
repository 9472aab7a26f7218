"""CloudOptions: subsampling, normalisation and augmentation of point clouds."""

from dataclasses import dataclass
from typing import Literal

from molformer.data.augmentation import PointAugmentation
from molformer.errors import ConfigError, check_choices

Sampling = Literal["random", "farthest", "all"]


@dataclass(frozen=True)
class CloudOptions:
    """Preprocessing of point clouds.

    Args:
        points: largest number of points of a cloud.
        sampling: `random`; `farthest`, which covers a shape more uniformly; `all` ignores `points`.
        normalise: center each cloud and scale it to the unit sphere.
        augmentation: applied to the training part after normalisation; None for none.

    Raises:
        ConfigError: a value is out of its range.
    """

    points: int = 1024
    sampling: Sampling = "random"
    normalise: bool = True
    augmentation: PointAugmentation | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        if self.points < 1:
            raise ConfigError(f"{self.points} points of a cloud: use at least 1")
