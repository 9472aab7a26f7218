import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.sampling import farthest, farthest_point_sampling, normalise, random_subsample, voxel_to_points
from molformer.errors import InputError


def cloud(count=200, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3))


@pytest.fixture(params=["fpsample", "numpy"])
def _both(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "fpsample", None)
    else:
        pytest.importorskip("fpsample", reason="fpsample is not installed")


@pytest.mark.usefixtures("_both")
def test_each_point_is_the_farthest_from_those_before():
    pos = cloud()
    chosen = farthest_point_sampling(pos, 20, seed=1)
    assert len(set(chosen.tolist())) == 20
    for i in range(1, 20):
        nearest = np.linalg.norm(pos[:, None] - pos[chosen[:i]], axis=-1).min(axis=1)
        assert nearest[chosen[i]] == pytest.approx(nearest.max(), rel=1e-5)


@pytest.mark.usefixtures("_both")
def test_coincident_points_are_not_taken_twice():
    pos = np.repeat(cloud(3), 5, axis=0)
    assert len(set(farthest_point_sampling(pos, 10).tolist())) == 10


@pytest.mark.usefixtures("_both")
def test_a_far_origin_changes_nothing():
    pos = np.round(cloud(), 3)
    assert np.array_equal(farthest_point_sampling(pos, 20), farthest_point_sampling(pos + 1e6, 20))


@pytest.mark.parametrize("sample", [farthest_point_sampling, random_subsample])
def test_the_seed_decides_and_few_points_are_all_kept(sample):
    pos = cloud()
    assert np.array_equal(sample(pos, 30, 5), sample(pos, 30, 5))
    assert not np.array_equal(sample(pos, 30, 5), sample(pos, 30, 6))
    assert sample(pos, 500).tolist() == list(range(200))
    with pytest.raises(InputError, match="at least 1"):
        sample(pos, 0)
    with pytest.raises(InputError, match="positions"):
        sample(np.zeros((0, 3)), 3)


def test_random_points_are_different_and_all_equally_likely():
    counts = np.zeros(20)
    for seed in range(2000):
        chosen = random_subsample(cloud(20), 5, seed)
        assert len(set(chosen.tolist())) == 5
        counts[chosen] += 1
    assert abs(counts / 2000 - 0.25).max() < 0.05


def test_voxels_are_centred_points_of_the_right_cells():
    grid = np.zeros((4, 2, 3), dtype=bool)
    grid[0, 0, 0] = grid[3, 1, 2] = grid[1, 0, 2] = True
    assert voxel_to_points(grid).tolist() == [[-1.5, -0.5, -1], [-0.5, -0.5, 1], [1.5, 0.5, 1]]
    with pytest.raises(InputError, match="three dimensions"):
        voxel_to_points(grid[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_normalised_clouds_fill_the_unit_sphere_whatever_their_place_and_size(count, size, shift, seed):
    pos = cloud(count, seed)
    result = normalise(size * pos + shift)
    assert np.allclose(result.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(result, axis=1).max() == pytest.approx(1.0 if count > 1 else 0.0, abs=1e-6)
    assert np.allclose(result, normalise(pos), atol=1e-6)


def test_coincident_points_normalise_to_zero():
    assert not normalise(np.full((7, 3), 0.1)).any()
    assert not normalise(np.zeros((7, 3))).any()


def test_farthest_points_in_many_dimensions():
    points = cloud(1800).reshape(300, 18)
    points[17] += 20
    points[230] -= 20
    chosen = farthest(points, 20, start=3)
    assert chosen[0] == 3
    assert len(set(chosen.tolist())) == 20
    assert {17, 230} <= set(chosen.tolist())
    to_chosen = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1)
    apart = np.linalg.norm(points[chosen][:, None] - points[chosen], axis=-1)[~np.eye(20, dtype=bool)].min()
    assert to_chosen.max() <= apart  # every point is nearer to one of them than they are to each other
