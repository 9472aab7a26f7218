from dataclasses import replace

import pytest
import torch

from molformer.models import SE3Transformer
from molformer.nn import (
    AtomHead,
    AtomVectorHead,
    ChargesHead,
    ClassHead,
    ExtensiveHead,
    ScalarHead,
    TensorHead,
    VectorHead,
)
from molformer.so3 import wigner_3j
from tests.helpers import moved, random_graph, rotation_and_matrix, small_config, turned

CHANNELS = 8


@pytest.fixture
def x():
    return torch.randn(10, 9, CHANNELS, dtype=torch.float64)


def degree_1(head, x, gates):
    return torch.einsum("nmc,nc->nm", head.vector(x[:, 1:4]), gates) / CHANNELS**0.5


def tensor(head, x, y, refs):
    traceless = torch.einsum("nmc,nc->nm", head.tensor(x[:, 4:9]), y[:, 1:]) / CHANNELS**0.5
    isotropic = (refs + 3 / 5 * y[:, 0])[:, None, None] * torch.eye(3)
    return (isotropic + 3 / 5 * torch.einsum("abm,nm->nab", torch.as_tensor(wigner_3j(1, 1, 2)), traceless)).sum(0)


def attention_pooled(y, values):
    weights = torch.exp(5 * torch.tanh(y[:, -1:] / 5))
    return (weights * values).sum(0) / weights.sum()


def linear_relu_linear(head, pooled):
    return head.net[2](head.net[0](pooled).relu())


# of each head, its values for one graph from the features of its nodes, the network's outputs, references and positions
FORMULAS = {
    "mean": (lambda: ScalarHead(CHANNELS, "mean"), lambda h, x, y, refs, pos: refs.mean() + 3 * y[:, 0].mean()),
    "attention": (
        lambda: ScalarHead(CHANNELS, "attention"),
        lambda h, x, y, refs, pos: refs.mean() + 3 * attention_pooled(y, y[:, :1])[0],
    ),
    "max": (
        lambda: ScalarHead(CHANNELS, "max"),
        lambda h, x, y, refs, pos: refs.mean() + 3 * linear_relu_linear(h, x[:, 0].amax(0))[0],
    ),
    "pooled first": (
        lambda: ScalarHead(CHANNELS, "mean", pool_first=True),
        lambda h, x, y, refs, pos: refs.mean() + 3 * linear_relu_linear(h, x[:, 0].mean(0))[0],
    ),
    "classes": (lambda: ClassHead(CHANNELS, 4), lambda h, x, y, refs, pos: attention_pooled(y, y[:, :4])),
    "extensive": (lambda: ExtensiveHead(CHANNELS), lambda h, x, y, refs, pos: (refs + 3 / 5 * y[:, 0]).sum()),
    "vector": (
        lambda: VectorHead(CHANNELS),
        lambda h, x, y, refs, pos: 3 * (degree_1(h, x, y[:, 1:]) + y[:, :1] * (pos - pos.mean(0))).sum(0),
    ),
    "tensor": (lambda: TensorHead(CHANNELS), lambda h, x, y, refs, pos: tensor(h, x, y, refs)),
    "atom": (lambda: AtomHead(CHANNELS), lambda h, x, y, refs, pos: refs + 3 * y[:, 0]),
    "atom vector": (lambda: AtomVectorHead(CHANNELS), lambda h, x, y, refs, pos: 3 * degree_1(h, x, y)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_formulas(x, name):
    build, formula = FORMULAS[name]
    head, graph = moved(build()).double(), random_graph((6, 4))
    references = 0.1 * torch.arange(119).double()
    head.set_statistics(3.0, references, 5.0)
    assert isinstance(head.net[2], torch.nn.Linear)
    y = head.net[2](torch.nn.functional.silu(head.net[0](x[:, 0])))
    parts = [(x[rows], y[rows], references[graph.numbers[rows]], graph.pos[rows]) for rows in (slice(6), slice(6, 10))]
    expected = [formula(head, *part) for part in parts]
    values = head(x, graph)
    expected = torch.cat(expected) if len(values) == 10 else torch.stack(expected)
    assert torch.allclose(values, expected, atol=1e-11)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_intensive_value_of_two_copies_is_that_of_one(x, pooling):
    head = moved(ScalarHead(CHANNELS, pooling)).double()
    graph, single = random_graph((5, 5)), random_graph((5,))
    same = torch.cat([x[:5], x[:5]])
    assert torch.allclose(head(same, graph), head(x[:5], single).expand(2), atol=1e-12)


def test_extensive_value_is_the_sum_of_nodes_and_references(x):
    head = moved(ExtensiveHead(CHANNELS)).double()
    graph = random_graph((6, 4))
    references = torch.arange(119).double()
    without = head(x, graph)
    head.set_statistics(1.0, references, 1.0)
    by_element = torch.stack([references[graph.numbers[:6]].sum(), references[graph.numbers[6:]].sum()])
    assert torch.allclose(head(x, graph) - without, by_element, atol=1e-9)


def test_vector_turns_with_the_molecule_and_does_not_move_with_it(x):
    head = moved(VectorHead(CHANNELS)).double()
    graph = random_graph((6, 4))
    rotation, matrix = rotation_and_matrix(2)
    value = head(x, graph)
    assert value.shape == (2, 3)
    assert torch.allclose(head(matrix @ x, turned(graph, rotation, shift=3.0)), value @ rotation.T, atol=1e-10)


def test_charges_add_up_to_the_total_charge(x):
    head = moved(ChargesHead(CHANNELS)).double()
    graph = random_graph((6, 4))
    graph.charge.copy_(torch.tensor([1.0, -2.0]))
    assert torch.allclose(graph.sum_over_graphs(head(x, graph)), graph.charge, atol=1e-10)


def test_total_energies_keep_their_digits_in_a_float32_network(x):
    head = ExtensiveHead(CHANNELS)
    head.set_statistics(0.0, torch.full((119,), -1234.5678901234), 1.0)
    energy = head(x.float(), random_graph((6, 4), torch.float32))
    assert energy.dtype == torch.float64
    assert torch.allclose(energy, torch.tensor([-1234.5678901234 * 6, -1234.5678901234 * 4]).double(), atol=1e-8)


def test_tensor_is_symmetric_and_turns_with_the_molecule(x):
    head = moved(TensorHead(CHANNELS)).double()
    head.set_statistics(2.0, torch.arange(119), 5.0)
    graph = random_graph((6, 4))
    rotation, matrix = rotation_and_matrix(2)
    value = head(x, graph)
    assert value.shape == (2, 3, 3)
    assert torch.allclose(value, value.transpose(1, 2), atol=1e-12)
    turned_value = head(matrix @ x, turned(graph, rotation, shift=3.0))
    assert torch.allclose(turned_value, rotation @ value @ rotation.T, atol=1e-9)
    assert (value - value.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(3)).abs().max() > 0.01


def test_values_of_atoms_are_their_references_and_more(x):
    head = AtomHead(CHANNELS).double()
    graph = random_graph((6, 4))
    without = head(x, graph)
    head.set_statistics(1.0, torch.arange(119), 1.0)
    assert torch.allclose(head(x, graph) - without, graph.numbers.double())


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_logits_of_two_copies_are_those_of_one(x, pooling):
    graph, single = random_graph((5, 5)), random_graph((5,))
    same = torch.cat([x[:5], x[:5]])
    for classes, shape in ((1, (2,)), (4, (2, 4))):
        head = moved(ClassHead(CHANNELS, classes, pooling)).double()
        logits = head(same, graph)
        assert logits.shape == shape
        assert torch.allclose(logits, head(x[:5], single).expand(shape), atol=1e-12)


@pytest.mark.parametrize("balanced", [False, True])
def test_vectors_of_atoms_turn_with_the_molecule_and_with_the_order_of_its_atoms(x, balanced):
    head = moved(AtomVectorHead(CHANNELS, balanced)).double()
    head.set_statistics(3.0, torch.zeros(119), 1.0)
    graph, alone = random_graph((6, 4)), random_graph((6,))
    rotation, matrix = rotation_and_matrix(2)
    value = head(x, graph)
    assert value.shape == (10, 3)
    assert value.abs().min() > 1e-6
    assert (head(matrix @ x, turned(graph, rotation, shift=3.0)) - value @ rotation.T).abs().max() < 1e-10
    assert torch.allclose(head(x[:6], alone), value[:6], atol=1e-12)
    order = torch.randperm(6)
    assert torch.allclose(head(x[order], alone), value[order], atol=1e-12)
    assert torch.allclose(graph.sum_over_graphs(value), torch.zeros(2, 3).double(), atol=1e-10) == balanced


def test_vectors_of_atoms_need_no_graph_and_are_as_large_as_their_scale(x):
    head = AtomVectorHead(CHANNELS).double()
    value = head(x)
    head.set_statistics(3.0, torch.zeros(119), 1.0)
    assert torch.allclose(head(x), 3 * value)


def test_noise_can_be_read_from_noisy_positions():
    """Noisy Nodes: a head that is no target of a model learns the noise that was put on the positions."""
    graph = random_graph((5, 4), spread=1.2)
    encoder = SE3Transformer(small_config(num_layers=2)).double()
    head = AtomVectorHead(CHANNELS).double()
    noise = torch.randn_like(graph.pos)
    noise = noise - graph.mean_over_graphs(noise)[graph.batch]
    noisy = replace(graph, pos=graph.pos + 0.1 * noise)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    losses = []
    for _ in range(40):
        loss = (head(encoder(noisy)) - noise).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
