import torch

from molformer.nn import StochasticDepth
from tests.helpers import random_graph, rotation_and_matrix


def features(graph, lmax=2):
    return torch.randn(len(graph.pos), (lmax + 1) ** 2, 8, dtype=torch.float64)


def test_nothing_happens_in_evaluation_or_without_a_probability():
    graph = random_graph()
    x = features(graph)
    assert torch.equal(StochasticDepth(0.9).eval()(x, graph), x)
    assert torch.equal(StochasticDepth(0.0)(x, graph), x)


def test_a_graph_is_dropped_or_enlarged_as_a_whole():
    graph = random_graph((3, 1, 5, 2) * 50)
    x = features(graph)
    y = StochasticDepth(0.25)(x, graph)
    factor = y / x
    assert torch.allclose(factor, factor[graph.ptr[:-1]][graph.batch][:, :1, :1].expand_as(factor))
    assert {round(value, 6) for value in factor.unique().tolist()} == {0.0, round(4 / 3, 6)}


def test_the_expectation_is_kept():
    graph = random_graph((1,) * 20000)
    x = torch.ones(20000, 1, 1, dtype=torch.float64)
    y = StochasticDepth(0.3)(x, graph)
    assert abs(y.mean().item() - 1) < 0.02
    assert abs((y == 0).double().mean().item() - 0.3) < 0.02


def test_what_is_left_turns_with_the_molecule():
    graph = random_graph((3,) * 20)
    x = features(graph)
    _, matrix = rotation_and_matrix(2)
    layer = StochasticDepth(0.5)
    torch.manual_seed(3)
    y = layer(x, graph)
    torch.manual_seed(3)
    assert (layer(matrix @ x, graph) - matrix @ y).abs().max() < 1e-10
    assert (y == 0).any()
    assert not (y == 0).all()
