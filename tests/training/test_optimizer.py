"""Every parameter of a model with heads of every kind is in the group that it belongs to."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.models import PropertyModel
from molformer.training.optimizer import decayed_parameters, freeze, layer_rates, parameter_groups, rate_of_step
from tests.helpers import random_graph, small_config

TARGETS = [
    Label("energy", "eV", "extensive"),
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("alpha", "a0^3", "tensor"),
    Label("charges", "e", "charges"),
    Label("forces", "eV/Å", "forces"),
    Label("active", "", "binary"),
]

BLOCK = {
    "separable": {
        "norm_1.gain": False,
        "attention.query.weight": True,
        "attention.output.weight": True,
        "attention.self_interaction.weight": True,
        "attention.convolution.scale.weight": True,
        "attention.convolution.scale.bias": False,
        "attention.convolution.a.0": True,
        "attention.convolution.a.1": True,
        "attention.convolution.a.2": True,
        "attention.convolution.b.0": True,
        "attention.convolution.b.1": True,
        "norm_2.gain": False,
        "feed_forward.expand.weight": True,
        "feed_forward.expand.bias": False,
        "feed_forward.gate.weight": True,
        "feed_forward.gate.bias": False,
        "feed_forward.reduce.weight": True,
    }
}
BLOCK["full"] = {name: decayed for name, decayed in BLOCK["separable"].items() if "convolution.scale" not in name} | {
    "attention.convolution.trunk.0.weight": True,
    "attention.convolution.trunk.0.bias": False,
}

EMBEDDINGS = {
    "species.weight": False,
    "edges.from_basis.weight": True,
    "edges.from_basis.bias": False,
    "edges.from_src.weight": False,
    "edges.from_dst.weight": False,
    "edges.mix.1.weight": True,
    "edges.mix.1.bias": False,
}


def is_decayed(name, convolution="separable"):
    """What this test says of a parameter of a `PropertyModel`, by its name."""
    if name.startswith("heads."):
        return name.endswith("weight")
    name = name.removeprefix("encoder.")
    if name.startswith("blocks."):
        return BLOCK[convolution][name.split(".", 2)[2]]
    return False if name == "norm.gain" else EMBEDDINGS[name]


@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_matrices_alone_are_decayed(convolution):
    model = PropertyModel(small_config(convolution=convolution), TARGETS)
    expected = {name for name, _ in model.named_parameters() if is_decayed(name, convolution)}
    assert decayed_parameters(model) == expected
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = parameter_groups(model, weight_decay=0.1)
    assert {names[id(p)] for p in decayed["params"]} == expected
    assert {names[id(p)] for p in kept["params"]} == set(names.values()) - expected
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)


def test_a_matrix_that_is_used_twice_is_in_one_group_once():
    first = nn.Linear(3, 3, bias=False)
    twice = nn.Sequential(first, nn.Linear(3, 3, bias=False))
    twice[1].weight = first.weight
    (group,) = parameter_groups(twice, 0.1)
    assert len(group["params"]) == 1


def test_rates_of_every_parameter():
    model = PropertyModel(small_config(num_layers=3), TARGETS)
    rates = layer_rates(model, encoder=0.1, frozen_blocks=2)
    assert set(rates) == {name for name, _ in model.named_parameters()}
    for name, rate in rates.items():
        frozen = name.startswith(("encoder.species.", "encoder.edges.", "encoder.blocks.0.", "encoder.blocks.1."))
        assert rate == (0.0 if frozen else 0.1 if name.startswith("encoder.") else 1.0), name
    assert set(layer_rates(model).values()) == {1.0}
    assert 0.0 not in layer_rates(model, encoder=0.5).values()


def test_rates_fall_by_the_same_factor_from_each_block_to_the_one_before():
    model = PropertyModel(small_config(num_layers=3, molecular_graph=True), TARGETS)
    rates = layer_rates(model, encoder=0.5, layer_decay=0.8)
    expected = {"norm": 1, "blocks.2": 1, "blocks.1": 2, "blocks.0": 3, "species": 4, "edges": 4, "chemistry": 4}
    for name, rate in rates.items():
        place = ".".join(name.split(".")[1 : 3 if ".blocks." in name else 2])
        assert rate == pytest.approx(0.5 * 0.8 ** expected[place] if name.startswith("encoder.") else 1.0), name
    frozen = layer_rates(model, encoder=0.5, frozen_blocks=2, layer_decay=0.8)
    assert frozen["encoder.blocks.1.norm_1.gain"] == frozen["encoder.chemistry.bonds.weight"] == 0.0
    assert frozen["encoder.blocks.2.norm_1.gain"] == pytest.approx(0.4)
    groups = parameter_groups(model, 0.01, learning_rate=0.02, rates=rates)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert found[id(parameter)][0] == pytest.approx(0.02 * rates[name]), name
    assert {decay for _, decay in found.values()} == {0.0, 0.01}


def test_rates_are_found_wherever_the_encoder_is():
    inner = PropertyModel(small_config(), TARGETS)
    outer = nn.ModuleDict({"model": inner, "other": nn.Linear(2, 2)})
    assert layer_rates(outer, 0.3, 1) == {
        **{f"model.{name}": rate for name, rate in layer_rates(inner, 0.3, 1).items()},
        "other.weight": 1.0,
        "other.bias": 1.0,
    }


def test_groups_have_the_rates_and_frozen_parameters_are_in_none():
    model = PropertyModel(small_config(num_layers=3), TARGETS)
    rates = layer_rates(model, encoder=0.1, frozen_blocks=2)
    groups = parameter_groups(model, 0.01, learning_rate=0.02, rates=rates)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if rates[name] == 0:
            assert id(parameter) not in found, name
        else:
            expected = (0.02 * rates[name], 0.01 if is_decayed(name) else 0.0)
            assert found[id(parameter)] == pytest.approx(expected), name
    assert len(groups) == 4


def test_what_needs_no_gradient_is_in_no_group():
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    (group,) = parameter_groups(layer, 0.1)
    assert group["params"] == [layer.bias]


def test_a_step_leaves_frozen_parameters_and_moves_all_others():
    model = PropertyModel(small_config(num_layers=2), [TARGETS[1]])
    rates = layer_rates(model, encoder=0.1, frozen_blocks=1)
    freeze(model, rates)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = AdamW(parameter_groups(model, 0.5, learning_rate=0.01, rates=rates))
    model(random_graph(dtype=torch.float32))["gap"].sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (rates[name] == 0), name
        assert (parameter.grad is None) == (rates[name] == 0), name
    freeze(model, layer_rates(model))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_cannot_be_frozen_is_said():
    model = PropertyModel(small_config(num_layers=3), TARGETS)
    with pytest.raises(ConfigError, match="4 blocks are to be frozen and the encoder has 3"):
        layer_rates(model, frozen_blocks=4)
    with pytest.raises(ConfigError, match="use 0 to 1"):
        layer_rates(model, encoder=-1.0)


@pytest.mark.parametrize("cooldown", [0.0, 0.25])
def test_the_rate_rises_and_falls_to_zero(cooldown):
    rates = np.array([rate_of_step(step, 400, warmup=0.1, cooldown=cooldown) for step in range(401)])
    assert rates[0] == 1 / 40
    assert rates[39] == 1
    assert rates[400] == 0
    assert (np.diff(rates[:40]) > 0).all()
    assert (np.diff(rates[300:]) < 0).all()
    assert np.isclose(rates[350], 0.5 if cooldown else 0.5 * (1 + np.cos(np.pi * 310 / 360)))
    assert (rates[40:300] == 1).all() == bool(cooldown)


def test_inputs_of_chemistry_are_frozen_and_left_alone_like_those_of_the_species():
    model = PropertyModel(small_config(molecular_graph=True, charge_and_spin=True), [Label("gap", "eV", "intensive")])
    names = [name for name, _ in model.named_parameters() if name.startswith("encoder.chemistry")]
    assert len(names) == 9  # six features of atoms, bonds, charge, spin
    assert not decayed_parameters(model) & set(names)
    assert {layer_rates(model, 0.1, 1)[name] for name in names} == {0.0}
