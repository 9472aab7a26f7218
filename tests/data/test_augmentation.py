import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.augmentation import PointAugmentation
from molformer.data.structure import Structure
from molformer.errors import ConfigError
from molformer.graph import GraphBatch


def marked(count, seed=0):
    """A cloud whose numbers, features and labels of points say which point it is."""
    rng = np.random.default_rng(seed)
    which = np.arange(count)
    pos = rng.normal(size=(count, 3))
    labels = {"class": seed, "vector": rng.normal(size=3), "mask": which, "forces": np.tile(which[:, None], 3)}
    return Structure(which % 100, pos, features=np.stack([which, -which], axis=1), labels=labels)


changes = st.builds(
    PointAugmentation,
    jitter=st.floats(0, 0.1),
    dropout=st.floats(0, 0.99),
    subsample=st.one_of(st.just(0), st.integers(4, 60)),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (3.0, 3.0)]),
)


@settings(max_examples=60, deadline=None)
@given(changes, st.integers(1, 80), st.integers(0, 99))
def test_the_points_of_a_structure_that_stay_keep_what_belongs_to_them(change, count, seed):
    cloud = marked(count, seed)
    result = change(cloud, np.random.default_rng(seed))
    which = result.labels["mask"].astype(int)
    assert len(result) == len(which) == len(set(which.tolist())) >= min(count, 4)
    assert len(result) <= (change.subsample or count)
    assert (result.numbers == which % 100).all()
    assert (result.features[:, 0] == which).all()
    assert (result.labels["forces"] == which[:, None]).all()
    assert result.labels["class"] == seed
    assert (result.labels["vector"] == cloud.labels["vector"]).all()
    unmoved = cloud.pos[which]
    factor = (result.pos * unmoved).sum() / (unmoved**2).sum()
    assert np.abs(result.pos - factor * unmoved).max() < 6 * change.jitter + 1e-9


@settings(max_examples=60, deadline=None)
@given(changes, st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 99))
def test_a_batch_stays_a_batch(change, sizes, seed):
    structures = [marked(size, seed=i) for i, size in enumerate(sizes)]
    batch = GraphBatch.from_structures(structures)
    batch.labels["mask"] = torch.cat([torch.arange(size) for size in sizes])
    batch.src = batch.dst = torch.zeros(1, dtype=torch.int64)
    result = change(batch, torch.Generator().manual_seed(seed))
    assert result.num_graphs == len(sizes)
    assert result.ptr[-1] == len(result.pos) == len(result.numbers) == len(result.features) == len(result.batch)
    assert torch.equal(result.batch, torch.arange(len(sizes)).repeat_interleave(result.sizes))
    assert torch.equal(result.numbers, result.labels["mask"] % 100)
    assert torch.equal(result.features[:, 0].long(), result.labels["mask"])
    assert result.labels["class"].tolist() == list(range(len(sizes)))
    assert result.src is None
    assert result.dst is None
    assert (result.sizes >= torch.tensor(sizes).clamp(max=4)).all()


def test_the_generator_decides():
    change = PointAugmentation(jitter=0.1, dropout=0.5)
    cloud = marked(50)
    for make in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        first, again, other = (change(cloud, make(seed)).pos for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_nothing_asked_for_changes_nothing():
    cloud = marked(20)
    assert np.array_equal(PointAugmentation()(cloud, np.random.default_rng(0)).pos, cloud.pos)


def test_noise_and_size_have_the_spread_that_was_asked_for():
    cloud = Structure(np.zeros(4000), np.ones((4000, 3)))
    rng = np.random.default_rng(0)
    assert PointAugmentation(jitter=0.2)(cloud, rng).pos.std() == pytest.approx(0.2, rel=0.05)
    factors = [PointAugmentation(scale=(0.5, 1.5))(cloud, rng).pos[0, 0] for _ in range(300)]
    assert min(factors) < 0.55
    assert max(factors) > 1.45
    left = [len(PointAugmentation(dropout=0.5)(cloud, rng)) for _ in range(300)]
    assert min(left) < 2100
    assert max(left) > 3900


@pytest.mark.parametrize(
    "values",
    [
        {"jitter": -1},
        {"jitter": float("nan")},
        {"dropout": 1.0},
        {"subsample": 2},
        {"scale": (2, 1)},
        {"scale": (0, 1)},
    ],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        PointAugmentation(**values)
