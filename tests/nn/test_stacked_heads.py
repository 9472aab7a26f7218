"""Heads that are read at once give what each gives alone."""

import pytest
import torch

from molformer.data.structure import Label
from molformer.nn.prepared import weights_kept
from molformer.nn.stacked_heads import alike
from tests.helpers import random_graph, small_model

TARGETS = [
    Label("homo", "eV", "intensive"),
    Label("energy", "eV", "extensive"),
    Label("dipole", "D", "vector"),
    Label("gap", "eV", "intensive"),
    Label("toxic", "", "binary"),
    Label("alpha", "a0^3", "extensive"),
    Label("lumo", "eV", "intensive"),
]


def model_and_features(**kwargs):
    model = small_model(TARGETS, num_layers=1)
    for number, target in enumerate(TARGETS):
        references = torch.linspace(0, number, 119, dtype=torch.float64)[: len(model.head(target.name).references)]
        model.head(target.name).set_statistics(1.0 + number, references, 3.0 + number)
    graph = random_graph((6, 4, 1))
    return model, model.features(graph).detach().requires_grad_(), graph


def test_values_and_gradients_are_those_of_each_head_alone():
    model, x, graph = model_and_features()
    together = model.read_heads([target.name for target in TARGETS], x, graph)
    alone = {target.name: model.head(target.name)(x, graph) for target in TARGETS}
    assert list(together) == list(alone)
    parameters = [x, *model.heads.parameters()]
    gradients = []
    for values in (together, alone):
        for name in values:
            assert values[name].shape == alone[name].shape
            assert torch.allclose(values[name], alone[name], atol=1e-12, rtol=1e-12)
        loss = sum((1 + number) * value.square().sum() for number, value in enumerate(values.values()))
        gradients.append(torch.autograd.grad(loss, parameters))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-10, rtol=1e-10)


def test_only_heads_of_one_kind_and_size_are_stacked():
    model, _, _ = model_and_features()
    heads = {target.name: model.head(target.name) for target in TARGETS}
    assert alike(heads) == [["homo", "gap", "lumo"], ["energy", "alpha"], ["dipole"], ["toxic"]]


@pytest.mark.parametrize("names", [["gap"], ["lumo", "homo"], ["alpha", "homo", "energy"]])
def test_some_of_the_heads_in_any_order(names):
    model, x, graph = model_and_features()
    values = model.read_heads(names, x, graph)
    assert list(values) == names
    for name in names:
        assert torch.allclose(values[name], model.head(name)(x, graph), atol=1e-12)


def test_statistics_that_change_count_at_once():
    model, x, graph = model_and_features()
    with torch.no_grad(), weights_kept():
        before = model.read_heads(["homo", "gap"], x, graph)["gap"]
        model.head("gap").scale.mul_(2)
        model.head("gap").references.zero_()
        after = model.read_heads(["homo", "gap"], x, graph)["gap"]
        assert torch.allclose(after, model.head("gap")(x, graph))
    assert not torch.allclose(before, after)
