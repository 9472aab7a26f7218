import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.autograd import gradcheck, gradgradcheck

from molformer.data.statistics import TargetStatistics
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, ModelError
from molformer.graph import GraphBatch
from molformer.models import Domain, PropertyModel
from molformer.nn import AtomVectorHead
from tests.helpers import moved, random_graph, rotation_and_matrix, small_config, small_model, turned

ENERGY, FORCES = Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")
GAP, DIPOLE = Label("gap", "eV", "intensive"), Label("dipole", "D", "vector")
CHARGES, STRESS = Label("charges", "e", "charges"), Label("stress", "GPa", "stress")
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


VELOCITIES = Label("velocities", "Å/fs", "atom_vector")


def statistics_of(targets):
    return {
        target.name: TargetStatistics(np.linspace(-1, 1, 119), 2.0 + row, 9.0) for row, target in enumerate(targets)
    }


def test_direct_forces_need_neither_an_energy_nor_gradients():
    model = moved(PropertyModel(small_config(), [FORCES, GAP], forces="direct")).double().eval()
    graph = random_graph()
    with torch.inference_mode():
        forces = model(graph)["forces"]
    assert forces.shape == (10, 3)
    assert torch.allclose(graph.sum_over_graphs(forces), torch.zeros(2, 3).double(), atol=1e-10)
    rotation, _ = rotation_and_matrix(2)
    assert torch.allclose(model(turned(graph, rotation, 1.0))["forces"], forces @ rotation.T, atol=1e-10)
    model.set_statistics(statistics_of(model.targets))
    assert model.scale(FORCES) == 2.0
    assert torch.allclose(model(graph)["forces"], 2 * forces)
    assert model.differentiable(graph) is graph


def test_vectors_of_atoms_are_predicted():
    model, graph = small_model([VELOCITIES]), random_graph()
    rotation, _ = rotation_and_matrix(2)
    value = model(graph)["velocities"]
    assert value.shape == (10, 3)
    assert torch.allclose(model(turned(graph, rotation, 1.0))["velocities"], value @ rotation.T, atol=1e-10)
    order = torch.tensor([3, 1, 5, 0, 2, 4, 9, 8, 7, 6])
    reordered = model(replace(graph, pos=graph.pos[order], numbers=graph.numbers[order]))["velocities"]
    assert torch.allclose(reordered, value[order], atol=1e-10)
    assert torch.allclose(model(random_graph((6,)))["velocities"], value[:6], atol=1e-10)
    same_place = replace(graph, pos=torch.zeros_like(graph.pos).requires_grad_())
    (gradient,) = torch.autograd.grad(model(same_place)["velocities"].square().sum(), same_place.pos)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("targets", [[GAP], ALL, [ENERGY, STRESS], [ENERGY, FORCES, STRESS]])
def test_forward_is_the_readout_of_the_features(targets):
    model, graph = small_model(targets), random_graph()
    whole = model(graph)
    with torch.no_grad():  # as in validation
        ready = model.differentiable(graph)
        x = model.features(ready)
        parts = model.readout(x, ready)
    assert x.shape == (10, 9, 8)
    assert torch.allclose(x, model.encoder(graph), atol=1e-13)
    assert set(parts) == {target.name for target in targets}
    for name, value in whole.items():
        assert torch.allclose(parts[name], value, atol=1e-12, equal_nan=True)


def test_features_and_readout_can_be_trained_together_with_another_head():
    model, graph = small_model([ENERGY, FORCES]).train(), random_graph()
    head = AtomVectorHead(8).double()
    ready = model.differentiable(graph)
    x = model.features(ready)
    (model.readout(x, ready)["forces"].square().sum() + head(x).square().sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert model.encoder.blocks[0].attention.query.weight.grad.abs().max() > 0


@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_every_kind_is_saved_with_its_scale(forces, tmp_path):
    targets = [*ALL, STRESS, VELOCITIES]
    model = PropertyModel(small_config(stochastic_depth=0.1), targets, forces=forces).eval()
    model.set_statistics(statistics_of(targets))
    model.save(tmp_path)
    again = PropertyModel.load(tmp_path)
    assert (again.forces, again.config) == (forces, model.config)
    graph = random_graph(dtype=torch.float32)
    values, expected = again(graph), model(graph)
    for row, target in enumerate(targets):
        assert torch.equal(values[target.name].nan_to_num(), expected[target.name].nan_to_num())
        assert again.scale(target) == 2.0 + row
    assert values["forces"].abs().max() > 0


def test_a_folder_from_before_direct_forces_and_scales_of_derivatives(tmp_path):
    """Such a model has conservative forces, whose loss is in units of the energy's scale per root of the size."""
    model = PropertyModel(small_config(), [ENERGY, FORCES])
    model.head("energy").set_statistics(6.0, torch.zeros(119), 9.0)
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["forces"], config["encoder"]["stochastic_depth"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 1}))
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("scales.")}
    save_file(weights, tmp_path / "model.safetensors")
    again = PropertyModel.load(tmp_path)
    assert again.forces == "conservative"
    assert again.scale(FORCES) == 2.0
    again.set_statistics(statistics_of([ENERGY, FORCES]))
    assert again.scale(FORCES) == 3.0
    again.load_state_dict(weights)
    assert again.scale(FORCES) == 3.0  # weights without a scale leave it as it is


def test_scales_before_any_statistics():
    model = PropertyModel(small_config(), [ENERGY, FORCES, STRESS])
    assert [model.scale(target).item() for target in model.targets] == [1.0, 1.0, 1.0]


def test_vectors_of_atoms_need_degree_one():
    with pytest.raises(ConfigError, match="of kind 'atom_vector' needs lmax of at least 1"):
        PropertyModel(small_config(lmax=0), [VELOCITIES])
    with pytest.raises(ConfigError, match="of kind 'forces' needs lmax of at least 1"):
        PropertyModel(small_config(lmax=0), [FORCES], forces="direct")
    PropertyModel(small_config(lmax=0), [ENERGY, FORCES])
    with pytest.raises(ConfigError, match="forces is 'both'; choose one of conservative, direct"):
        PropertyModel(small_config(), [ENERGY, FORCES], forces="both")
