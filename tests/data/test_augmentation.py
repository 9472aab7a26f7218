import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.augmentation import PointAugmentation
from molformer.errors import ConfigError


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.99), st.integers(1, 80), st.integers(0, 99))
def test_each_point_stays_once_and_a_few_always_do(dropout, count, seed):
    kept = PointAugmentation(dropout=dropout).choose(count, np.random.default_rng(seed))
    assert kept.tolist() == sorted(set(kept.tolist()) & set(range(count)))
    assert min(count, 4) <= len(kept) <= count


def test_the_generator_decides():
    change = PointAugmentation(jitter=0.1, dropout=0.5)
    for draw in (lambda rng: change.choose(50, rng), lambda rng: change.move(np.zeros((50, 3)), rng)):
        first, again, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_nothing_asked_for_changes_nothing():
    pos, rng = np.ones((20, 3)), np.random.default_rng(0)
    assert PointAugmentation().choose(20, rng).tolist() == list(range(20))
    assert np.array_equal(PointAugmentation().move(pos, rng), pos)


def test_noise_and_dropout_have_the_spread_that_was_asked_for():
    rng = np.random.default_rng(0)
    moved = PointAugmentation(jitter=0.2).move(np.ones((4000, 3)), rng)
    assert moved.std() == pytest.approx(0.2, rel=0.05)
    assert moved.mean() == pytest.approx(1, abs=0.02)
    left = [len(PointAugmentation(dropout=0.5).choose(4000, rng)) for _ in range(300)]
    assert min(left) < 2100
    assert max(left) > 3900


@pytest.mark.parametrize("values", [{"jitter": -1}, {"jitter": float("nan")}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        PointAugmentation(**values)
