"""Changes of point clouds during training: noise, fewer points, another size.

There is no rotation and no shift: the model gives the same result for every orientation and place of a cloud, so that
seeing more of them teaches it nothing. A mirror image is missing too: it is another shape under SE(3).
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from molformer.data.structure import Structure
from molformer.errors import ConfigError
from molformer.graph import GraphBatch

FEWEST_POINTS = 4
"""Points that always stay: the fewest that span space; no vector can be mistaken for a label of four points."""

Generator = np.random.Generator | torch.Generator


@dataclass(frozen=True)
class PointAugmentation:
    """Random changes of a cloud, drawn anew for each; labels are kept, those of points with their points.

    Args:
        jitter: standard deviation of the noise of each coordinate, in the unit of the positions after scaling.
        dropout: largest share of the points that is left out, 0 to 1; the share is drawn evenly below it.
        subsample: largest number of points that stay, 0 for all.
        scale: range of the factor of all positions; (1, 1) leaves them as they are. Labels are not scaled.

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
        """A changed copy of a cloud, or of each cloud of a batch; given edges are left out, for they no longer hold.

        Args:
            cloud: what to change.
            generator: the source of chance; a torch generator gives one seed.
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
        """Indices of the points of one cloud that stay, ascending."""
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
