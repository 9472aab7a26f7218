import numpy as np
import pytest

from molformer.data.splits import random_split
from molformer.errors import ConfigError


def test_parts_cover_everything_once_and_keep_groups_together():
    groups = np.random.default_rng(0).integers(0, 30, size=200)
    split = random_split(groups, (0.6, 0.2, 0.2), seed=1)
    parts = [split.train, split.val, split.test]
    assert sorted(np.concatenate(parts)) == list(range(200))
    assert sum(len(set(groups[part])) for part in parts) == len(set(groups))


def test_a_seed_gives_the_same_split_everywhere():
    split = random_split(np.arange(12), (0.5, 0.25, 0.25), seed=3)
    assert split.test.tolist() == [3, 5, 8]
    assert random_split(np.arange(12), (0.5, 0.25, 0.25), seed=4).test.tolist() != split.test.tolist()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.9, 0.2, 0.1), (1.2, -0.1, -0.1)])
def test_fractions_that_do_not_fit_are_refused(fractions):
    with pytest.raises(ConfigError, match="three fractions that add up to 1"):
        random_split(np.arange(10), fractions, seed=0)


def test_an_empty_part_is_refused():
    with pytest.raises(ConfigError, match="test part of 3 molecules would be empty"):
        random_split(np.arange(3), (0.6, 0.4, 0.0), seed=0)
