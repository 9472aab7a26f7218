import json
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from molformer.data.graph import GraphBatch
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, ModelError
from molformer.models import Domain, PropertyModel
from tests.helpers import random_graph, rotation_and_matrix, small_config, small_model, turned

ENERGY, FORCES = Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")
GAP, DIPOLE = Label("gap", "eV", "intensive"), Label("dipole", "D", "vector")
CHARGES = Label("charges", "e", "charges")
ALL = [ENERGY, GAP, DIPOLE, CHARGES, FORCES]


def test_invariants_stay_and_vectors_turn():
    model, graph = small_model(ALL), random_graph()
    rotation, _ = rotation_and_matrix(2)
    first, second = model(graph), model(turned(graph, rotation, 1.0))
    for name in ("energy", "gap", "charges"):
        assert torch.allclose(first[name], second[name], atol=1e-10)
    for name in ("dipole", "forces"):
        assert torch.allclose(first[name] @ rotation.T, second[name], atol=1e-10)


def near_axis(angle):
    """Three atoms, an edge of which is at `angle` to the polar axis, on either side."""
    return Structure([8, 6, 1], [[0, 0, 0], [1.2 * angle, 1.2, 0], [0.3, -1.0, 0.4 + angle]])


@pytest.mark.parametrize("convolution", ["separable", "full"])
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-5, 1e-3])
def test_gradient_of_the_energy_is_that_of_finite_differences(angle, convolution):
    model = small_model([ENERGY], convolution=convolution, num_layers=2)
    graph = GraphBatch.from_structures([near_axis(angle)], torch.float64)

    def energy(pos):
        return model(replace(graph, pos=pos))["energy"]

    assert gradcheck(energy, graph.pos.requires_grad_(), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3])
def test_second_derivatives_are_right(angle):
    model = small_model([ENERGY], num_layers=2, channels=4)
    graph = GraphBatch.from_structures([near_axis(angle)], torch.float64)

    def energy(pos):
        return model(replace(graph, pos=pos))["energy"]

    assert gradgradcheck(energy, graph.pos.requires_grad_(), eps=1e-5, atol=1e-5)


def test_forces_are_minus_the_gradient_of_the_energy():
    model, graph = small_model([ENERGY, FORCES]), random_graph((5,))
    forces = model(graph)["forces"]
    step = 1e-5
    for atom, axis in ((0, 0), (2, 1), (4, 2)):
        shift = torch.zeros_like(graph.pos)
        shift[atom, axis] = step
        energies = [model(replace(graph, pos=graph.pos + sign * shift))["energy"].item() for sign in (1, -1)]
        assert abs(-(energies[0] - energies[1]) / (2 * step) - forces[atom, axis].item()) < 1e-6
    assert torch.allclose(forces.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-10)


def test_forces_can_be_trained_on():
    model, graph = small_model([ENERGY, FORCES]), random_graph((5,))
    model.train()(graph)["forces"].square().sum().backward()
    gradients = [p.grad for p in model.encoder.blocks.parameters() if p.grad is not None]
    assert gradients
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_saved_model_gives_the_same_numbers(tmp_path):
    domain = Domain((1, 6, 7, 8), 12, ("given",))
    model = PropertyModel(small_config(), ALL, domain=domain).eval()
    model.head("gap").set_statistics(2.0, torch.arange(119), 9.0)
    model.save(tmp_path / "model")
    again = PropertyModel.load(tmp_path / "model")
    graph = random_graph(dtype=torch.float32)
    for name, value in model(graph).items():
        assert torch.equal(value, again(graph)[name])
    assert (again.targets, again.domain, again.pooling) == (model.targets, domain, "attention")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_missing_broken_and_newer_folders_are_refused(tmp_path):
    model = PropertyModel(small_config(), [GAP])
    with pytest.raises(ModelError, match="no model folder at"):
        PropertyModel.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        PropertyModel.load(tmp_path / "empty")
    model.save(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        PropertyModel.load(tmp_path / "cut")
    model.save(tmp_path / "newer")
    config = tmp_path / "newer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "format": 99}))
    with pytest.raises(ModelError, match="install a newer molformer"):
        PropertyModel.load(tmp_path / "newer")
    PropertyModel(small_config(channels=4), [GAP]).save(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text((tmp_path / "cut" / "config.json").read_text())
    with pytest.raises(ModelError, match="does not fit its config"):
        PropertyModel.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("targets", "message"),
    [([], "at least one target"), ([GAP, GAP], "named twice"), ([FORCES], "name it 'energy'")],
)
def test_targets_that_contradict_each_other_are_refused(targets, message):
    with pytest.raises(ConfigError, match=message):
        PropertyModel(small_config(), targets)


def test_a_vector_needs_degree_one():
    with pytest.raises(ConfigError, match="lmax"):
        PropertyModel(small_config(lmax=0), [DIPOLE])


def test_forces_are_in_their_own_unit():
    graph = random_graph((5,))
    model = small_model([Label("E", "kcal/mol", "extensive"), Label("F", "eV/Å", "forces")])
    values = model(graph)
    pos = graph.pos.clone().requires_grad_()
    gradient = torch.autograd.grad(model.train()(replace(graph, pos=pos))["E"].sum(), pos)[0]
    assert torch.allclose(values["F"], -gradient * 0.0433641, rtol=1e-5)


def test_it_must_be_clear_of_which_energy_the_forces_are():
    with pytest.raises(ConfigError, match="name it 'energy'"):
        PropertyModel(small_config(), [Label("u0", "eV", "extensive"), Label("h0", "eV", "extensive"), FORCES])


@pytest.mark.parametrize("name", ["log.S", "type", "values", "100%"])
def test_a_target_may_have_any_name(name, tmp_path):
    model = PropertyModel(small_config(), [Label(name, "", "intensive")]).eval()
    model.save(tmp_path)
    graph = random_graph(dtype=torch.float32)
    assert torch.equal(PropertyModel.load(tmp_path)(graph)[name], model(graph)[name])
