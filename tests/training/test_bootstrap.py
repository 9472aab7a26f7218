import numpy as np
import pytest

from molformer.training.bootstrap import ratio_interval, sample_interval


def mean(sums):
    return sums[:, 0] / sums[:, 1]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    low, high = ratio_interval(np.stack([values, np.ones(400)], 1), mean)
    half = 1.96 * values.std() / 400**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_the_interval_has_its_nominal_coverage():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        values = random.exponential(size=80)
        low, high = ratio_interval(np.stack([values, np.ones(80)], 1), mean, resamples=300)
        hits += low < 1 < high
    assert 0.88 < hits / 200 < 0.99


def test_values_of_one_structure_stay_together():
    """Ten atoms with the same error say no more than one: the interval is as wide."""
    values = np.random.default_rng(0).normal(size=50)
    one = ratio_interval(np.stack([values, np.ones(50)], 1), mean)
    ten = ratio_interval(np.stack([10 * values, np.full(50, 10.0)], 1), mean)
    assert ten == pytest.approx(one)


def test_figures_that_need_the_structures_themselves():
    values = np.arange(100.0)
    low, high = sample_interval(lambda drawn: float(np.median(values[drawn])), 100)
    assert 30 < low < 49.5 < high < 70
    low, high = sample_interval(lambda drawn: float("nan"), 100)
    assert np.isnan(low)
    assert np.isnan(high)


def test_one_structure_has_no_interval():
    assert np.isnan(ratio_interval(np.ones((1, 2)), mean)).all()
    assert np.isnan(sample_interval(lambda drawn: 1.0, 1)).all()
