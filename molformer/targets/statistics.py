"""What a model needs to know of a target on the training part; `data.statistics` fits it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetStatistics:
    """Statistics of one target on a training set.

    Args:
        references: value of each element (Z,), in the target's unit.
        scale: root mean square of what the references leave, in the target's unit.
        size: mean number of atoms.
    """

    references: np.ndarray
    scale: float
    size: float
