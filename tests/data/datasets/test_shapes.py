import numpy as np
import pytest

from molformer.data import datasets
from molformer.data.datasets.shapes import GAP, PARTS, primitive, shape
from molformer.data.importing import import_dataset


def distance_to(kind, pos):
    """Of each point from the surface that it should lie on, whose size is read off the points."""
    radius = np.linalg.norm(pos[:, :2], axis=1)
    top = np.abs(pos[:, 2]).max()
    if kind == "sphere":
        return np.linalg.norm(pos, axis=1) - np.linalg.norm(pos[0])
    if kind == "box":
        return np.abs(np.abs(pos) / np.abs(pos).max(0) - 1).min(1)
    if kind == "cylinder":
        return np.minimum(np.abs(radius - radius.max()), np.abs(np.abs(pos[:, 2]) - top))
    slope = radius.max() * (0.5 - pos[:, 2] / (2 * top))  # radius of the cone at a height
    return np.minimum(np.abs(radius - slope), np.abs(pos[:, 2] + top))


@pytest.mark.parametrize("kind", PARTS)
def test_points_lie_on_the_primitive(kind):
    pos = primitive(kind, 4000, np.random.default_rng(1))
    assert np.abs(distance_to(kind, pos)).max() < 0.02
    assert np.linalg.norm(pos[:, :2].mean(0)) < 0.02


@pytest.mark.parametrize(("kind", "axis"), [("cylinder", 2), ("cone", 2), ("box", 0)])
def test_points_are_spread_evenly(kind, axis):
    """As many points on the flat ends as their share of the surface says."""
    pos = primitive(kind, 20000, np.random.default_rng(2))
    low = pos[:, axis] == pos[:, axis].min()
    radius, height = np.linalg.norm(pos[:, :2], axis=1).max(), np.ptp(pos[:, 2])
    if kind == "cylinder":
        share = np.pi * radius**2 / (2 * np.pi * radius**2 + 2 * np.pi * radius * height)
    elif kind == "cone":
        share = radius / (radius + np.hypot(radius, height))
    else:
        x, y, z = np.ptp(pos, axis=0)
        share = y * z / (2 * (x * y + y * z + x * z))
    assert low.mean() == pytest.approx(share, rel=0.08)


def test_an_object_has_parts_that_are_apart():
    for seed in range(20):
        pos, part = shape(np.random.default_rng(seed))
        assert len(pos) == len(part) == 512
        kinds = np.unique(part)
        assert 2 <= len(kinds) <= 4
        first, rest = pos[part == kinds[0]], pos[part != kinds[0]]
        assert np.linalg.norm(first[:, None] - rest, axis=-1).min() > 0.99 * GAP


def test_import(tmp_path):
    store = import_dataset("shapes", tmp_path / "set", count=5, seed=2).store
    label = store.label("part")
    assert (label.kind, label.classes, label.per_node) == ("atom_category", PARTS, True)
    assert set(np.unique(store.column("part"))) <= set(range(len(PARTS)))
    again = next(datasets.generate("shapes", 1, 2)).structure
    assert np.allclose(store[0].pos, again.pos, atol=1e-6)
    assert np.array_equal(store[0].labels["part"], again.labels["part"])
