"""Augmentation of point clouds in training: noise, dropout, subsampling and scaling.

Rotations and translations are not needed, since the model is equivariant. Reflections are omitted, as they change the
shape under SE(3).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.structure import Structure

FEWEST_POINTS = 4
"""Smallest number of points, which span space; the shape (4,) of per-point labels differs from that of vectors."""

Generator = np.random.Generator | torch.Generator


@dataclass(frozen=True)
class PointAugmentation:
    """Random augmentation of a cloud; per-point labels are subsampled with the points.

    Args:
        jitter: standard deviation of the noise of each coordinate, in the unit of the positions after scaling.
        dropout: largest fraction of dropped points, 0 to 1; the fraction is drawn uniformly.
        subsample: largest number of points, 0 for all.
        scale: range of the scale factor of the positions. Labels are not scaled.

    Raises:
        ConfigError: a value is out of its range.

    Example:
        >>> cloud = Structure(np.zeros(50), np.random.default_rng(0).normal(size=(50, 3)))
        >>> len(PointAugmentation(jitter=0.01, subsample=20)(cloud, np.random.default_rng(0)))
        20
    """

    jitter: float = 0.0
    dropout: float = 0.0
    subsample: int = 0
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        if not 0 <= self.jitter < np.inf:
            raise ConfigError(f"jitter {self.jitter}: use a length of at least 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout}: use a share from 0 to below 1")
        if self.subsample and self.subsample < FEWEST_POINTS:
            raise ConfigError(f"subsample {self.subsample}: use at least {FEWEST_POINTS} points, or 0 for all")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise ConfigError(f"scale {list(self.scale)}: use two positive factors, the smaller one first")

    def __call__(self, cloud: Structure | GraphBatch, generator: Generator) -> Structure | GraphBatch:
        """Augmented copy of a cloud, or of each cloud of a batch, without edges.

        Args:
            cloud: one cloud or a batch.
            generator: random generator; a torch generator is used to draw a seed.
        """
        rng = _numpy_generator(generator)
        return self._structure(cloud, rng) if isinstance(cloud, Structure) else self._batch(cloud, rng)

    def _structure(self, cloud: Structure, rng: np.random.Generator) -> Structure:
        keep = self.choose(len(cloud), rng)
        labels = {
            name: value[keep] if value.shape[:1] == (len(cloud),) else value for name, value in cloud.labels.items()
        }
        kept = cloud.select(keep)
        return replace(kept, pos=self.move(kept.pos, rng), labels=labels)

    def _batch(self, batch: GraphBatch, rng: np.random.Generator) -> GraphBatch:
        ptr = batch.ptr.tolist()
        chosen, moved = [], []
        pos = batch.pos.detach().cpu().numpy()
        for start, end in pairwise(ptr):
            chosen.append(start + self.choose(end - start, rng))
            moved.append(self.move(pos[chosen[-1]], rng))
        keep = torch.from_numpy(np.concatenate(chosen)).to(batch.pos.device)
        sizes = torch.tensor([0, *map(len, chosen)], device=batch.ptr.device)
        nodes = len(batch.pos)
        labels = {
            # Where every cloud is one point, there is one value a cloud and a point, and all stay.
            name: value[keep] if value.shape[:1] == (nodes,) else value
            for name, value in batch.labels.items()
        }
        return replace(
            batch,
            numbers=batch.numbers[keep],
            pos=torch.from_numpy(np.concatenate(moved)).to(batch.pos),
            ptr=sizes.cumsum(0),
            batch=batch.batch[keep],
            src=None,
            dst=None,
            shift=None,
            labels=labels,
            features=None if batch.features is None else batch.features[keep],
            atom_features=None,
        )

    def choose(self, points: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the retained points of a cloud, ascending."""
        left = points - int(rng.uniform(0, self.dropout) * points) if self.dropout else points
        left = min(left, self.subsample) if self.subsample else left
        left = max(left, min(points, FEWEST_POINTS))
        return np.sort(rng.choice(points, size=left, replace=False)) if left < points else np.arange(points)

    def move(self, pos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Positions (n, 3) of one cloud, scaled and with noise."""
        scaled = pos * rng.uniform(*self.scale) if self.scale != (1.0, 1.0) else pos
        return (scaled + self.jitter * rng.standard_normal(pos.shape)).astype(pos.dtype) if self.jitter else scaled


def _numpy_generator(generator: Generator) -> np.random.Generator:
    if isinstance(generator, np.random.Generator):
        return generator
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)))
