from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.structure import Structure
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch
from molformer.models import SE3Transformer, SE3TransformerConfig, preset
from tests.helpers import TOLERANCE, moved, parity, random_graph, rotation_and_matrix, small_config, turned

GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
CONVOLUTIONS = pytest.mark.parametrize("convolution", ["separable", "full"])


def encoder(dtype=torch.float64, **kwargs):
    return moved(SE3Transformer(small_config(**kwargs))).to(dtype)


def inputs(graph, channels=8, lmax=2):
    return torch.randn(len(graph.pos), (lmax + 1) ** 2, channels, dtype=graph.pos.dtype)


@GROUPS
@CONVOLUTIONS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_turn_with_the_molecule(group, convolution, dtype):
    model, graph = encoder(dtype, group=group, convolution=convolution), random_graph(dtype=dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    x = inputs(graph)
    with torch.no_grad():
        y = model(graph, x)
        y_turned = model(turned(graph, rotation, shift=5.0), matrix @ x)
        y_mirrored = model(turned(graph, -torch.eye(3)), parity(2, dtype) * x)
    assert (y_turned - matrix @ y).abs().max() < TOLERANCE[dtype]
    mirror_error = (y_mirrored - parity(2, dtype) * y).abs().max()
    assert mirror_error < TOLERANCE[dtype] if group == "E(3)" else mirror_error > 1e-2


@GROUPS
@CONVOLUTIONS
def test_mirror_images_differ_with_se3_alone(group, convolution):
    """CHFClBr is chiral: its invariants tell the enantiomers apart if, and only if, reflections are no symmetry."""
    left = Structure([6, 1, 9, 17, 35], [[0, 0, 0], [0.6, 0.6, 0.6], [-0.8, -0.8, 0.8], [-1, 1, -1], [1.1, -1.1, -1.1]])
    right = replace(left, pos=left.pos * [1, 1, -1])
    model = encoder(group=group, convolution=convolution)
    with torch.no_grad():
        a, b = (model(GraphBatch.from_structures([one], torch.float64))[:, 0] for one in (left, right))
    difference = (a - b).abs().max()
    assert difference < 1e-10 if group == "E(3)" else difference > 1e-3


def test_order_of_the_atoms_does_not_matter():
    model, graph = encoder(), random_graph((7,))
    order = torch.randperm(7)
    with torch.no_grad():
        y = model(graph)
        y_reordered = model(replace(graph, pos=graph.pos[order], numbers=graph.numbers[order]))
    assert torch.allclose(y_reordered, y[order], atol=1e-10)


def test_a_graph_alone_equals_the_same_graph_in_a_batch():
    model = encoder()
    with torch.no_grad():
        together = model(random_graph((6, 4)))
        alone = model(random_graph((6,)))
    assert torch.allclose(together[:6], alone, atol=1e-12)


def pair(distance, dtype=torch.float64):
    return GraphBatch.from_structures([Structure([6, 8, 1], [[0, 0, 0], [-1.2, 0.3, 0], [distance, 0, 0.5]])], dtype)


def test_smooth_as_an_edge_crosses_the_cutoff():
    """Value and first derivative with respect to the distance are continuous, in steps that shrink to zero."""
    model = encoder()
    at_cutoff = (5.0**2 - 0.5**2) ** 0.5

    def value_and_slope(x):
        pos = pair(x).pos.requires_grad_()
        y = model(replace(pair(x), pos=pos)).square().sum()
        return y.item(), torch.autograd.grad(y, pos)[0][2, 0].item()

    values, slopes = zip(*(value_and_slope(at_cutoff + step) for step in (-1e-6, 1e-6)), strict=True)
    inside = value_and_slope(at_cutoff - 0.5)
    assert abs(inside[0] - values[1]) > 1e-6  # the edge matters where it is
    assert abs(values[0] - values[1]) < 1e-9
    assert abs(slopes[0] - slopes[1]) < 1e-9


def test_a_last_neighbour_leaves_smoothly():
    model = encoder()

    def value(x):
        graph = GraphBatch.from_structures([Structure([6, 8], [[0, 0, 0], [x, 0, 0]])], torch.float64)
        return model(graph)

    with torch.no_grad():
        assert (value(4.0) - value(6.0)).abs().max() > 1e-3
        assert (value(5.0 - 1e-5) - value(5.0 + 1e-5)).abs().max() < 1e-9


@pytest.mark.parametrize(
    "pos",
    [
        [[0, 0, 0], [0, 0, 0], [0, 1.0, 0]],  # coincident
        [[0, 0, 0], [90, 0, 0], [0, 90, 0]],  # isolated
        [[0, 0, 0], [0, 1.1, 0], [0, -1.2, 0]],  # edges on ±y
        [[0, 0, 0], [1e-9, 0, 0], [1e-4, 0, 0]],  # almost coincident
    ],
)
@CONVOLUTIONS
def test_values_gradients_and_second_derivatives_are_finite(pos, convolution):
    model = encoder(convolution=convolution)
    graph = GraphBatch.from_structures([Structure([6, 1, 8], pos)], torch.float64)
    graph = replace(graph, pos=graph.pos.requires_grad_())
    y = model(graph).square().sum()
    (gradient,) = torch.autograd.grad(y, graph.pos, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), graph.pos, allow_unused=True, retain_graph=True)
    weights = torch.autograd.grad(gradient.square().sum() + y, list(model.parameters()), allow_unused=True)
    assert y.isfinite()
    assert gradient.isfinite().all()
    assert second is None or second.isfinite().all()
    assert all(weight is None or weight.isfinite().all() for weight in weights)


def test_no_neighbour_at_all_is_no_error():
    with torch.no_grad():
        y = encoder()(GraphBatch.from_structures([Structure([6], [[0, 0, 0]])], torch.float64))
    assert y.isfinite().all()


def test_given_edges_are_used():
    model, graph = encoder(), random_graph((4,))
    nothing = torch.empty(0, dtype=torch.int64)
    with torch.no_grad():
        assert not torch.allclose(model(graph), model(replace(graph, src=nothing, dst=nothing)))


def test_a_node_hears_its_nearest_neighbours_alone():
    graph = random_graph(sizes=(9, 5))
    torch.manual_seed(0)
    nearest = encoder(max_neighbors=3)
    src, dst, _ = nearest.find_edges(graph)
    assert torch.bincount(dst).tolist() == [3] * 14
    for node in range(14):
        distance = (graph.pos - graph.pos[node]).norm(dim=1)
        distance[(graph.batch != graph.batch[node]) | (torch.arange(14) == node)] = torch.inf
        assert set(src[dst == node].tolist()) == set(distance.argsort()[:3].tolist())
    torch.manual_seed(0)
    everyone = encoder()
    rotation, matrix = rotation_and_matrix(2, torch.float64)
    with torch.no_grad():
        y = nearest(graph)
        assert (nearest(turned(graph, rotation)) - matrix @ y).abs().max() < TOLERANCE[torch.float64]
        assert (everyone(graph) - y).abs().max() > 1e-3
        every = encoder(max_neighbors=20)
        every.load_state_dict(everyone.state_dict())
        assert torch.allclose(every(graph), everyone(graph), atol=1e-12)


def test_nearest_neighbours_are_not_for_periodic_structures():
    crystal = Structure([6, 6], [[0, 0, 0], [1, 1, 1]], cell=3.0 * np.eye(3), pbc=[True] * 3)
    with pytest.raises(InputError, match="periodic"):
        encoder(max_neighbors=1)(GraphBatch.from_structures([crystal], torch.float64))


def test_autocast_keeps_to_the_same_function():
    model, graph = encoder(torch.float32), random_graph(dtype=torch.float32)
    with torch.no_grad():
        y = model(graph)
        with torch.autocast("cpu", dtype=torch.float16):
            y_half = model(graph)
    assert (y - y_half.float()).abs().max() / y.abs().max() < 0.1


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_presets_build_and_run(name):
    config = preset(name)
    model = SE3Transformer(replace(config, num_layers=1))
    with torch.no_grad():
        y = model(random_graph((4,), torch.float32))
    assert y.shape == (4, (config.lmax + 1) ** 2, config.channels)


def test_parameters_do_not_depend_on_the_seed_of_the_tables():
    config = SE3TransformerConfig(lmax=1, channels=8, num_layers=1)
    names = set(SE3Transformer(config).state_dict())
    assert not any("frame" in name or "degrees" in name or "_compiled" in name for name in names)
    assert np.all([name.split(".")[0] in ("species", "edges", "blocks", "norm") for name in names])


def test_stochastic_depth_rises_to_the_last_block_and_is_off_in_evaluation():
    model = encoder(stochastic_depth=0.3)
    assert [block.drop.drop for block in model.blocks] == pytest.approx([0.1, 0.2, 0.3])
    plain = SE3Transformer(small_config()).double()
    plain.load_state_dict(model.state_dict())
    graph = random_graph()
    with torch.no_grad():
        assert torch.equal(model.eval()(graph), plain.eval()(graph))
        assert not torch.allclose(model.train()(graph), plain.train()(graph))
    with pytest.raises(ConfigError, match=r"stochastic_depth is 1\.0"):
        small_config(stochastic_depth=1.0)


def test_stochastic_depth_leaves_out_both_branches_and_keeps_equivariance():
    model, graph = encoder(stochastic_depth=0.5, num_layers=1), random_graph((4,) * 16)
    rotation, matrix = rotation_and_matrix(2)
    x = inputs(graph)
    with torch.no_grad():
        torch.manual_seed(5)
        y = model(graph, x)
        torch.manual_seed(5)
        y_turned = model(turned(graph, rotation), matrix @ x)
        untouched = model.norm(model.embed_nodes(graph) + x)
    assert (y_turned - matrix @ y).abs().max() < 1e-10
    both = torch.isclose(y, untouched).flatten(1).all(1).view(16, 4)
    assert (both.all(1) == both.any(1)).all()
    assert 0 < both.all(1).sum() < 16
