import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molformer.data.batching import BoundedBatchSampler
from molformer.errors import ConfigError


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90), st.booleans())
def test_no_structure_twice_and_no_batch_beyond_the_limit(costs, limit, shuffle):
    costs = np.array(costs)
    sampler = BoundedBatchSampler(costs, limit, shuffle)
    for batches in (list(sampler), list(sampler)):
        chosen = np.concatenate(batches).tolist()
        assert len(set(chosen)) == len(chosen)
        assert len(chosen) == len(costs) or (shuffle and len(chosen) >= len(costs) - len(costs) // 2)
        assert max(costs[batch].sum() for batch in batches) <= limit


def test_every_epoch_has_the_number_of_batches_that_was_promised():
    costs = np.random.default_rng(0).integers(2, 30, size=200)
    sampler = BoundedBatchSampler(costs, 60, True, torch.Generator().manual_seed(0))
    epochs = [list(sampler) for _ in range(30)]
    assert {len(batches) for batches in epochs} == {len(sampler)}
    assert np.mean([sum(map(len, batches)) for batches in epochs]) > 0.98 * len(costs)


def test_order_is_that_of_the_seed_and_new_every_epoch():
    def epochs(seed):
        sampler = BoundedBatchSampler(np.ones(20), 4, True, torch.Generator().manual_seed(seed))
        return [list(sampler) for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


def test_the_number_of_structures_can_be_bounded_too():
    assert [len(batch) for batch in BoundedBatchSampler(np.ones(10), 100, most=4)] == [4, 4, 2]
    assert len(BoundedBatchSampler(np.ones(10), 100, most=4)) == 3


def test_a_structure_that_never_fits_is_refused():
    with pytest.raises(ConfigError, match="costs 9, beyond the limit of 8"):
        BoundedBatchSampler(np.array([3, 9]), 8)
