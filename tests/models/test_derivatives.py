"""Stress against finite differences of the energy under strain, and forces and stress of one backward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.models import PropertyModel
from tests.helpers import random_structure, rotation_and_matrix, small_config, small_model

ENERGY, FORCES = Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")
STRESS = Label("stress", "eV/Å^3", "stress")
CELL = np.array([[4.0, 0.3, 0.0], [1.0, 5.0, 0.2], [-0.4, 0.5, 4.5]])


def crystal(atoms=4, seed=0, **kwargs):
    return random_structure(atoms, seed=seed, cell=CELL, **kwargs)


def batch(*structures):
    return GraphBatch.from_structures(structures, torch.float64)


def strained(structure, strain):
    """The structure with positions and cell, and so every edge, taken through 1 + strain."""
    change = np.eye(3) + strain
    return replace(structure, pos=structure.pos @ change.T, cell=structure.cell @ change.T)


def model_of(*targets, **kwargs):
    return small_model(targets, cutoff=4.0, **kwargs)


@pytest.mark.parametrize("convolution", ["separable", "full"])
def test_stress_is_that_of_finite_differences(convolution):
    model, structure = model_of(ENERGY, STRESS, num_layers=2, convolution=convolution), crystal()
    src, _, shift = model.encoder.find_edges(batch(structure))
    assert shift.any(1).sum() > 0.3 * len(src)  # many edges cross the cell
    stress = model(batch(structure))["stress"][0]
    volume, step = abs(np.linalg.det(CELL)), 1e-5
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[row, column] = strain[column, row] = step if row == column else 0.5 * step
        energies = [model(batch(strained(structure, sign * strain)))["energy"].item() for sign in (1, -1)]
        expected = (energies[0] - energies[1]) / (2 * step) / volume
        assert stress[row, column].item() == pytest.approx(expected, abs=1e-9), (row, column)
    assert stress.abs().max() > 1e-4


def test_stress_has_the_sign_of_ase():
    """An energy that grows as the cell does pulls: the stress is positive, the pressure -tr(σ)/3 negative."""
    model, structure = model_of(ENERGY, STRESS), crystal()
    grown = strained(structure, 1e-4 * np.eye(3))
    energy = [model(batch(each))["energy"].item() for each in (structure, grown)]
    trace = model(batch(structure))["stress"][0].trace().item()
    assert trace * (energy[1] - energy[0]) > 0


def test_stress_turns_with_the_crystal_and_not_with_its_order_or_place():
    model, structure = model_of(ENERGY, FORCES, STRESS), crystal(5)
    rotation, _ = rotation_and_matrix(2)
    values = model(batch(structure))
    stress = values["stress"][0]
    turn = rotation.numpy()
    turned = model(batch(replace(structure, pos=structure.pos @ turn.T + 3.0, cell=CELL @ turn.T)))
    assert (turned["stress"][0] - rotation @ stress @ rotation.T).abs().max() < 1e-10
    assert (turned["forces"] - values["forces"] @ rotation.T).abs().max() < 1e-10
    order = np.random.default_rng(0).permutation(5)
    other = model(batch(replace(structure, numbers=structure.numbers[order], pos=structure.pos[order])))
    assert torch.allclose(other["stress"][0], stress, atol=1e-10)
    wrapped = structure.pos + np.array([[2], [0], [-1], [3], [0]]) * CELL[1] + 100.0
    assert torch.allclose(model(batch(replace(structure, pos=wrapped)))["stress"][0], stress, atol=1e-10)
    assert torch.equal(stress, stress.T)


def test_stress_of_a_supercell_is_that_of_the_cell():
    model, unit = model_of(ENERGY, STRESS), crystal(4)
    double = Structure(
        np.tile(unit.numbers, 2), np.concatenate([unit.pos, unit.pos + CELL[0]]), cell=CELL * [[2], [1], [1]]
    )
    assert torch.allclose(model(batch(double))["stress"], model(batch(unit))["stress"], atol=1e-10)


def test_forces_and_stress_together_are_those_of_two_models_and_of_a_batch():
    structures = crystal(4), crystal(3, seed=5)
    both = model_of(ENERGY, FORCES, STRESS)
    forces, stress = model_of(ENERGY, FORCES), model_of(ENERGY, STRESS)
    forces.load_state_dict(both.state_dict(), strict=False)
    stress.load_state_dict(both.state_dict(), strict=False)
    graph = batch(*structures)
    together = both(graph)
    assert torch.allclose(together["forces"], forces(graph)["forces"], atol=1e-12)
    assert torch.allclose(together["stress"], stress(graph)["stress"], atol=1e-12)
    for index, structure in enumerate(structures):
        assert torch.allclose(both(batch(structure))["stress"][0], together["stress"][index], atol=1e-12)


def test_the_order_of_the_lattice_vectors_does_not_matter():
    model, structure = model_of(ENERGY, STRESS), crystal()
    left_handed = replace(structure, cell=CELL[[1, 0, 2]])
    assert torch.allclose(model(batch(left_handed))["stress"], model(batch(structure))["stress"], atol=1e-10)


def test_large_coordinates_cost_no_digits_of_the_stress():
    """Coordinates on a grid of 2⁻¹⁰ Å, so that single precision holds them and all differences without rounding."""
    model = model_of(ENERGY, STRESS).float()
    structure = replace(crystal(), pos=np.round(1024 * crystal().pos) / 1024, cell=np.round(1024 * CELL) / 1024)
    far = replace(structure, pos=structure.pos + 4096)
    near_stress, far_stress = (model(GraphBatch.from_structures([each]))["stress"] for each in (structure, far))
    assert (far_stress - near_stress).abs().max() < 1e-5 * near_stress.abs().max()


def test_derivatives_in_evaluation_hold_no_graph():
    values = model_of(ENERGY, FORCES, STRESS)(batch(crystal()))
    assert not values["forces"].requires_grad
    assert not values["stress"].requires_grad


def test_what_is_not_periodic_has_no_stress_and_is_trained_all_the_same():
    model = model_of(ENERGY, FORCES, STRESS).train()
    molecule, slab = random_structure(4, seed=3), crystal(4, pbc=(True, True, False))
    values = model(batch(crystal(), molecule, slab))
    assert values["stress"].isnan().flatten(1).all(1).tolist() == [False, True, True]
    assert values["stress"][0].isfinite().all()
    (values["stress"][0].square().sum() + values["forces"].square().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    alone = model(batch(molecule))
    assert alone["stress"].isnan().all()
    assert torch.allclose(alone["forces"], values["forces"][4:8], atol=1e-12)


def test_the_gradient_of_a_loss_on_stress_is_that_of_finite_differences():
    """Forces and stress are differentiated in turn, with respect to weights and positions."""
    model = model_of(ENERGY, FORCES, STRESS, num_layers=1, channels=4).train()
    graph = batch(crystal(3))
    weight = model.encoder.blocks[0].feed_forward.reduce.weight

    def loss(pos):
        values = model(replace(graph, pos=pos))
        return 100 * values["stress"].square().sum() + values["forces"].square().sum()

    pos = graph.pos.clone().requires_grad_()
    by_weight, by_pos = torch.autograd.grad(loss(pos), [weight, pos])
    for leaf, gradient, place in (
        (weight, by_weight, (1, 2, 3)),
        (weight, by_weight, (0, 1, 0)),
        (pos, by_pos, (1, 2)),
    ):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                leaf[place] += step
            values.append(loss(pos).item())
            with torch.no_grad():
                leaf[place] -= step
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient[place].item(), rel=1e-5, abs=1e-7)


def test_atoms_in_one_place_have_finite_stress():
    model = model_of(ENERGY, FORCES, STRESS).train()
    structure = Structure([6, 1, 8], [[0, 0, 0], [0, 0, 0], [0, 1.0, 0]], cell=CELL)
    values = model(batch(structure))
    (values["stress"].square().sum() + values["forces"].square().sum()).backward()
    assert values["stress"].isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_atom_alone_in_a_large_cell_has_no_stress():
    values = model_of(ENERGY, STRESS)(batch(Structure([6], [[1.0, 2.0, 3.0]], cell=30 * np.eye(3))))
    assert torch.equal(values["stress"], torch.zeros(1, 3, 3, dtype=torch.float64))


def test_edges_that_are_given_with_their_shifts_give_the_same_stress():
    model, graph = model_of(ENERGY, STRESS), batch(crystal())
    src, dst, shift = model.encoder.find_edges(graph)
    given = replace(graph, src=src, dst=dst, shift=shift)
    assert torch.allclose(model(given)["stress"], model(graph)["stress"], atol=1e-12)


def test_stress_is_in_its_own_unit():
    model = model_of(Label("E", "kcal/mol", "extensive"), Label("s", "GPa", "stress"))
    inside = model_of(Label("E", "eV", "extensive"), Label("s", "eV/Å^3", "stress"))
    inside.load_state_dict(model.state_dict())
    graph = batch(crystal())
    assert torch.allclose(model(graph)["s"], inside(graph)["s"] * 0.0433641 * 160.21766, rtol=1e-5)


def test_stress_needs_an_energy():
    for targets in ([STRESS], [STRESS, Label("gap", "eV", "intensive")]):
        with pytest.raises(ConfigError, match="forces and stress are derivatives of an energy"):
            PropertyModel(small_config(), targets, forces="direct")
    with pytest.raises(ConfigError, match="only one target can be of kind 'stress'"):
        PropertyModel(small_config(), [ENERGY, STRESS, Label("virial", "", "stress")])


def test_readout_needs_the_graph_of_the_features():
    model, graph = model_of(ENERGY, FORCES), batch(crystal())
    with pytest.raises(ConfigError, match="the graph that `differentiable` gives"):
        model.readout(model.features(graph), graph)
    ready, other = model.differentiable(graph), model.differentiable(graph)
    with pytest.raises(ConfigError, match="not those of this graph"):
        model.readout(model.features(ready), other)
