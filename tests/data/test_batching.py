import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molformer.data.batching import EpochBatches
from molformer.errors import ConfigError


def bounded(costs, limit, batch_size=1000, training=False, **kwargs):
    return EpochBatches(len(costs), batch_size, training, costs=np.array(costs), limit=limit, **kwargs)


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90), st.booleans())
def test_no_structure_twice_and_no_batch_beyond_the_limit(costs, limit, training):
    sampler = bounded(costs, limit, training=training)
    for batches in (epoch(sampler, 0), epoch(sampler, 1)):
        chosen = np.concatenate(batches).tolist()
        assert len(set(chosen)) == len(chosen)
        assert len(chosen) == len(costs) or (training and len(chosen) >= len(costs) - len(costs) // 2)
        assert max(np.array(costs)[batch].sum() for batch in batches) <= limit


def test_every_epoch_has_the_same_number_of_batches():
    costs = np.random.default_rng(0).integers(2, 30, size=200)
    sampler = bounded(costs, 60, training=True)
    epochs = [epoch(sampler, number) for number in range(30)]
    assert {len(batches) for batches in epochs} == {len(sampler)}
    assert np.mean([sum(map(len, batches)) for batches in epochs]) > 0.98 * len(costs)


@pytest.mark.parametrize(
    "make", [lambda seed: EpochBatches(20, 4, True, seed), lambda s: bounded([1] * 20, 4, 9, True, seed=s)]
)
def test_order_is_that_of_seed_and_epoch_alone(make):
    first = [epoch(make(1), number) for number in range(3)]
    assert [epoch(make(1), number) for number in (2, 1, 0)] == first[::-1]
    assert first[0] != first[1]
    assert epoch(make(2), 0) != first[0]


def test_the_number_of_structures_can_be_bounded_too():
    assert [len(batch) for batch in bounded([1] * 10, 100, batch_size=4)] == [4, 4, 2]
    assert len(bounded([1] * 10, 100, batch_size=4)) == 3


def test_the_last_batch_is_left_out_in_training_unless_it_is_the_only_one():
    assert [len(batch) for batch in EpochBatches(10, 4, training=True)] == [4, 4]
    assert [len(batch) for batch in EpochBatches(3, 4, training=True)] == [3]
    assert [len(batch) for batch in EpochBatches(10, 4)] == [4, 4, 2]


def test_short_epochs_are_pieces_of_whole_passes():
    sampler = EpochBatches(10, 2, training=True, epoch_size=4)
    assert len(sampler) == 2
    stream = [place for number in range(5) for batch in epoch(sampler, number) for place in batch]
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch_of_a_training(world):
    whole = epoch(EpochBatches(20, 6, training=True), 3)
    parts = [epoch(EpochBatches(20, 6, training=True, rank=rank, world=world), 3) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(place for share in shares for place in share)
        assert min(map(len, shares)) >= 1


def test_processes_share_the_batches_under_a_limit_and_those_of_validation():
    costs = np.random.default_rng(0).integers(2, 30, size=101)
    parts = [epoch(bounded(costs, 60, training=True, rank=rank, world=2), 1) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == len(bounded(costs, 60, training=True, rank=1, world=2))
    assert not set(np.concatenate(parts[0])) & set(np.concatenate(parts[1]))
    parts = [list(EpochBatches(5, 4, rank=rank, world=2)) for rank in range(2)]
    assert parts == [[[0, 2], [4]], [[1, 3]]]
    assert [len(EpochBatches(5, 4, rank=rank, world=2)) for rank in range(2)] == [2, 1]


def test_places_can_come_with_the_epoch():
    assert epoch(EpochBatches(2, 2, with_epoch=True), 5) == [[(0, 0), (0, 1)]]
    assert {number for number, _ in epoch(EpochBatches(2, 2, training=True, with_epoch=True), 5)[0]} == {5}


def test_what_cannot_be_batched_is_refused():
    with pytest.raises(ConfigError, match="costs 9, beyond the limit of 8"):
        bounded([3, 9], 8)
    with pytest.raises(ConfigError, match="batch_size is 1 for 2 processes"):
        EpochBatches(10, 1, training=True, world=2)
    with pytest.raises(ConfigError, match="1 batches an epoch for 2 processes"):
        bounded([1, 1], 8, training=True, world=2)
    with pytest.raises(ConfigError, match="2 structures cannot be shared by 3 processes"):
        EpochBatches(2, 4, world=3)
