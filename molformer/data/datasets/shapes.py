"""Generated objects composed of primitives, for per-point classification (segmentation).

An object is two to four spheres, cylinders, boxes and cones of random sizes, each randomly rotated and displaced in a
random direction beyond those before it. Points are uniform on all surfaces; the label of a point is
the kind of primitive that it lies on. Letters: p points.
"""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from molformer.data.datasets.dataset import DataSet
from molformer.data.readers import Entry
from molformer.structure import Structure
from molformer.targets import Label

PARTS = ("sphere", "cylinder", "box", "cone")
POINTS = 512
GAP = 0.1  # between a primitive and those before it, along the direction in which it was moved out
PART = Label("part", "", "atom_category", classes=PARTS)


def primitive(kind: str, points: int, generator: np.random.Generator) -> np.ndarray:
    """Points (p, 3) uniform on the surface of a primitive, of one of the kinds `PARTS` and a random size, at the
    origin.
    """
    radius, height = generator.uniform(0.3, 0.6), generator.uniform(0.8, 1.6)
    if kind == "sphere":
        return radius * _unit(generator.standard_normal((points, 3)))
    if kind == "box":
        sides = generator.uniform(0.4, 1.2, size=3)
        return _box(sides, points, generator)
    angle = generator.uniform(0, 2 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    root = np.sqrt(generator.uniform(size=points))[:, None]  # even over a disc, and over the side of a cone
    if kind == "cylinder":
        side, lid = 2 * np.pi * radius * height, np.pi * radius**2
        which = generator.choice(3, size=points, p=np.array([side, lid, lid]) / (side + 2 * lid))[:, None]
        z = np.where(which == 0, generator.uniform(-0.5, 0.5, (points, 1)), which - 1.5) * height
        return np.concatenate([radius * circle * np.where(which == 0, 1.0, root), z], axis=1)
    side, lid = np.pi * radius * np.hypot(radius, height), np.pi * radius**2
    on_side = generator.uniform(size=(points, 1)) < side / (side + lid)
    z = np.where(on_side, 0.5 - root, -0.5) * height
    return np.concatenate([radius * circle * root, z], axis=1)


def shape(generator: np.random.Generator, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Points (p, 3) of an object, and the place of each point's primitive in `PARTS` (p,)."""
    count = int(generator.integers(2, 5))
    kinds = generator.choice(len(PARTS), size=count, replace=False)
    share = np.full(count, points // count)
    share[: points % count] += 1
    placed: list[np.ndarray] = []
    for kind, size in zip(kinds.tolist(), share.tolist(), strict=True):
        turn = Rotation.random(random_state=int(generator.integers(2**31))).as_matrix()
        part = primitive(PARTS[kind], size, generator) @ turn.T
        outward = _unit(generator.standard_normal(3))
        if placed:  # beyond all others, with a plane between
            part += (np.concatenate(placed) @ outward).max() * outward - ((part @ outward).min() - GAP) * outward
        placed.append(part)
    return np.concatenate(placed), np.repeat(kinds, share)


def _box(sides: np.ndarray, points: int, generator: np.random.Generator) -> np.ndarray:
    pos = generator.uniform(-0.5, 0.5, (points, 3))
    areas = np.array([sides[1] * sides[2], sides[0] * sides[2], sides[0] * sides[1]])
    axis = generator.choice(3, size=points, p=areas / areas.sum())
    pos[np.arange(points), axis] = generator.choice([-0.5, 0.5], size=points)
    return pos * sides


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _generate(count: int, seed: int) -> Iterator[Entry]:
    for number in range(count):
        pos, part = shape(np.random.default_rng([seed, number]))
        structure = Structure(np.zeros(len(pos), dtype=np.int64), pos, labels={PART.name: part})
        yield Entry(f"shape {number + 1}", structure=structure)


SHAPES = (
    DataSet(
        name="shapes",
        title=f"1,500 objects of spheres, cylinders, boxes and cones in any pose, {POINTS} points each: made here",
        labels=(PART,),
        licence="none needed",
        citation="molformer",
        generate=_generate,
        count=1500,
    ),
)
