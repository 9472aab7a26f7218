"""The published network: its symmetry, its size, and that it learns."""

from dataclasses import replace

import pytest
import torch

from molformer.data.structure import Label, Structure
from molformer.elements import MAX_NUMBER
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch
from molformer.inference import Predictor
from molformer.models import PaperTransformer, PropertyModel, SE3Transformer, preset
from molformer.models.equivariance import equivariance_error
from tests.helpers import TOLERANCE, moved, parity, random_graph, random_structure, rotation_and_matrix, turned

GAP = Label("gap", "eV", "intensive")
GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
INTERACTIONS = pytest.mark.parametrize("interaction", ["linear", "attentive"])


def config(**kwargs):
    values = {"lmax": 2, "channels": 8, "num_layers": 2, "num_heads": 2, "radial": 8}
    return replace(preset("paper"), **{**values, **kwargs})


def network(dtype=torch.float64, out_lmax=2, **kwargs):
    return moved(PaperTransformer(config(**kwargs), out_lmax)).to(dtype)


@GROUPS
@INTERACTIONS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_turn_with_the_molecule(group, interaction, dtype):
    model, graph = network(dtype, group=group, self_interaction=interaction), random_graph(dtype=dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    with torch.no_grad():
        y = model(graph)
        error = (model(turned(graph, rotation, shift=5.0)) - matrix @ y).abs().max()
        mirror = (model(turned(graph, -torch.eye(3))) - parity(2, dtype) * y).abs().max()
    scale = y.abs().max()
    assert error / scale < TOLERANCE[dtype]
    assert mirror / scale < TOLERANCE[dtype] if group == "E(3)" else mirror / scale > 1e-3


@INTERACTIONS
def test_inputs_of_higher_degree_turn_too(interaction):
    """Of every block but the first, fed with features of all degrees."""
    model, graph = network(self_interaction=interaction), random_graph()
    rotation, matrix = rotation_and_matrix(2)
    x = torch.randn(len(graph.pos), 9, 8, dtype=torch.float64)
    with torch.no_grad():
        y = model.blocks[1](x, model.embed_edges(graph))
        y_turned = model.blocks[1](matrix @ x, model.embed_edges(turned(graph, rotation)))
    assert (y_turned - matrix @ y).abs().max() < 1e-10


def radial(numbers, in_channels, out_channels, functions, edge_numbers):
    """Published network of an edge: two layers with biases and layer norms, and a last one without a bias."""
    layers = edge_numbers * functions + functions + functions**2 + functions
    return layers + 2 * 2 * functions + functions * numbers * in_channels * out_channels


@pytest.mark.parametrize(("lmax", "channels", "layers", "functions"), [(3, 32, 7, 32), (1, 8, 2, 4)])
def test_parameters_are_as_many_as_published(lmax, channels, layers, functions):
    """Σ over blocks, pairs of degrees k → l and J of the radial networks, and the maps of each degree."""
    share, outputs, size = channels // 2, (lmax + 1) * channels, 1
    expected = (MAX_NUMBER + 1) * channels  # species
    for layer in range(layers):
        degrees_in = range(1 if layer == 0 else lmax + 1)
        for k in degrees_in:
            expected += channels * share  # queries
            for degree in range(lmax + 1):
                width = 2 * share if degree in degrees_in else share  # values and, where there are queries, keys
                expected += radial(2 * min(k, degree) + 1, channels, width, functions, size)
        for degree in range(lmax + 1):
            expected += (share + (channels if degree in degrees_in else 0)) * channels  # self-interaction
            expected += 2 * channels  # norm nonlinearity
    expected += sum(radial(1, channels, outputs, functions, size) for _ in range(lmax + 1)) + channels * outputs
    encoder = PaperTransformer(
        replace(preset("paper"), lmax=lmax, channels=channels, num_layers=layers, num_heads=4, radial=functions)
    )
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected
    head = outputs**2 + outputs + outputs + 1
    model = PropertyModel(encoder.config, [GAP], "max")
    assert sum(parameter.numel() for parameter in model.parameters()) == expected + head


@pytest.mark.parametrize("pooling", ["max", "mean", "attention"])
def test_it_learns(pooling):
    structures = [random_structure(4 + seed % 3, seed=seed) for seed in range(16)]
    graph = GraphBatch.from_structures(structures)
    target = torch.tensor([float((each.numbers == 8).sum()) + each.pos.std() for each in structures])
    model = PropertyModel(config(channels=16, num_heads=4), [GAP], pooling)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = (model(graph)["gap"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_every_kind_of_target_can_be_read_out(tmp_path):
    targets = [
        GAP,
        Label("energy", "eV", "extensive"),
        Label("dipole", "D", "vector"),
        Label("alpha", "a0^3", "tensor"),
        Label("forces", "eV/Å", "forces"),
    ]
    model = moved(PropertyModel(config(), targets, "max")).eval()
    assert model.encoder.out_lmax == 2
    assert all(error < 1e-9 for error in equivariance_error(model, random_graph(), torch.float64).values())
    model.save(tmp_path / "model")
    molecule = random_structure(5)
    predictor = Predictor.load(tmp_path / "model")
    row = predictor.predict(molecule)[0]
    assert float(row["gap"]) == pytest.approx(model(GraphBatch.from_structures([molecule]))["gap"].item(), rel=1e-5)
    assert predictor.embed(molecule).shape == (1, 3 * 3 * 8)
    with pytest.raises(InputError, match="attention weights are not available for architecture 'paper'"):
        predictor.attention(molecule)


def test_a_graph_alone_equals_the_same_graph_in_a_batch():
    model = network()
    with torch.no_grad():
        together, alone = model(random_graph((6, 4))), model(random_graph((6,)))
    assert torch.allclose(together[:6], alone, atol=1e-10)


def test_smooth_as_the_last_neighbour_leaves():
    model = network()

    def value(x):
        return model(GraphBatch.from_structures([Structure([6, 8], [[0, 0, 0], [x, 0, 0]])], torch.float64))

    with torch.no_grad():
        assert (value(4.0) - value(6.0)).abs().max() > 1e-3
        assert (value(5.0 - 1e-5) - value(5.0 + 1e-5)).abs().max() < 1e-7


@pytest.mark.parametrize("pos", [[[0, 0, 0], [0, 0, 0], [0, 1.0, 0]], [[0, 0, 0], [90, 0, 0], [0, -1.2, 0]]])
def test_coincident_and_isolated_atoms_have_finite_gradients(pos):
    graph = GraphBatch.from_structures([Structure([6, 1, 8], pos)], torch.float64)
    graph = replace(graph, pos=graph.pos.requires_grad_())
    y = network()(graph).square().sum()
    (gradient,) = torch.autograd.grad(y, graph.pos)
    assert y.isfinite()
    assert gradient.isfinite().all()


def test_numbers_of_edges_are_used_and_wanted():
    model, graph = network(input_edge_scalars=2), random_graph((4,))
    src, dst = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 3, 2])
    given = replace(graph, src=src, dst=dst, edge_features=torch.rand(4, 2))
    order = torch.tensor([2, 0, 3, 1])
    shuffled = replace(given, src=src[order], dst=dst[order], edge_features=given.edge_features[order])
    with torch.no_grad():
        y = model(given)
        assert torch.allclose(model(shuffled), y, atol=1e-12)
        assert not torch.allclose(model(replace(given, edge_features=torch.rand(4, 2))), y)
    with pytest.raises(InputError, match="takes 2 scalars of each edge"):
        model(graph)


def test_wrong_sizes_are_errors():
    with pytest.raises(ConfigError, match=r"channels \(8\) must be a multiple of channels_div · num_heads \(3 · 2\)"):
        config(channels_div=3)
    for sizes in ({"message_channels": 4}, {"qk_norm": True}):
        with pytest.raises(ConfigError, match="not for architecture 'paper'"):
            config(**sizes)
    with pytest.raises(ConfigError, match="input_edge_scalars are for architecture 'paper'"):
        replace(preset("tiny"), input_edge_scalars=2)
    with pytest.raises(ConfigError, match="'paper' is made by `PaperTransformer`"):
        SE3Transformer(config())
