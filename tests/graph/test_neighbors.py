from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.errors import InputError
from molformer.graph import knn_edges, neighbors, radius_edges


def clouds(sizes, seed, kind="random", dtype=torch.float32):
    """Positions and ptr of a batch; on a lattice most distances are tied, coincident points are at distance 0."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    pos = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    if kind == "lattice":
        pos = (2 * pos).round()
    elif kind == "coincident":
        pos = pos[torch.randint(0, max(1, count // 4), (count,), generator=generator)]
    return pos.to(dtype), torch.tensor([0, *np.cumsum(sizes)])


def nearest_by_force(pos, ptr, k):
    points, found = pos.double().numpy(), []
    for start, end in pairwise(ptr.tolist()):
        for dst in range(start, end):
            square = ((points[start:end] - points[dst]) ** 2).sum(axis=1)
            order = sorted((d, src) for src, d in zip(range(start, end), square, strict=True) if src != dst)
            found += [(dst, src) for _, src in order[:k]]
    return sorted(found)


sizes = st.lists(st.integers(0, 30), min_size=1, max_size=4)
kinds = st.sampled_from(["random", "lattice", "coincident"])


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 99), kinds, st.integers(1, 12))
def test_k_nearest_are_those_of_brute_force_ties_by_index(sizes, seed, kind, k):
    pos, ptr = clouds(sizes, seed, kind)
    src, dst = knn_edges(pos, ptr, k)
    assert list(zip(dst.tolist(), src.tolist(), strict=True)) == nearest_by_force(pos, ptr, k)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 99), kinds, st.sampled_from([0.5, 1.0, 2.0, 50.0]), st.sampled_from(["32", "64", "b16"]))
def test_a_tree_gives_the_edges_of_all_pairs_in_the_same_order(sizes, seed, kind, cutoff, bits):
    dtype = {"32": torch.float32, "64": torch.float64, "b16": torch.bfloat16}[bits]
    pos, ptr = clouds(sizes, seed, kind, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(neighbors._TREE_PAIRS, "cpu", 1 << 60)
        expected = radius_edges(pos, ptr, cutoff)
        patch.setitem(neighbors._TREE_PAIRS, "cpu", -1)
        found = radius_edges(pos, ptr, cutoff)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_large_cloud_takes_the_tree(monkeypatch):
    def refuse(*_):
        raise AssertionError("all pairs of 2,000 points")

    monkeypatch.setattr(neighbors, "_all_pairs", refuse)
    pos, ptr = clouds([2000], 0)
    src, dst = radius_edges(pos, ptr, 0.3)
    assert ((pos[src] - pos[dst]).norm(dim=-1) < 0.3).all()
    assert len(src) == ((torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist") < 0.3).sum() - 2000)


def test_a_position_that_is_not_finite_has_no_edges_within_a_radius_and_no_nearest(monkeypatch):
    monkeypatch.setitem(neighbors._TREE_PAIRS, "cpu", -1)
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [float("nan"), 0, 0], [float("inf"), 0, 0]])
    ptr = torch.tensor([0, 4])
    assert [edge.tolist() for edge in radius_edges(pos, ptr, 2.0)] == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match="position of node 3"):
        knn_edges(pos, ptr, 1)
    with pytest.raises(InputError, match="at least 1"):
        knn_edges(pos, ptr, 0)


def test_no_nodes_and_nodes_alone_have_no_edges():
    for sizes in ([], [0], [1], [1, 1, 1]):
        pos, ptr = clouds(sizes, 0)
        assert len(knn_edges(pos, ptr, 3)[0]) == 0
        assert len(radius_edges(pos, ptr, 1.0)[0]) == 0


def test_positions_that_need_gradients_are_taken():
    pos, ptr = clouds([300], 0)
    pos.requires_grad_()
    assert len(knn_edges(pos, ptr, 3)[0]) == 900
    assert len(radius_edges(pos, ptr, 1.0)[0]) > 0
