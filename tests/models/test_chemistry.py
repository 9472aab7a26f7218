"""The molecular graph, total charge and multiplicity as inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError, InputError, ModelError
from molformer.graph import GraphBatch
from molformer.inference import Predictor
from molformer.inference.ase import MolformerCalculator
from molformer.inference.checks import check_model
from molformer.models import PropertyModel, SE3Transformer, SE3TransformerConfig
from tests.helpers import TOLERANCE, moved, parity, rotation_and_matrix, small_config, small_model, turned

SMILES = ("C[C@H](N)C(=O)[O-]", "c1ccc[nH]1", "C[CH2]")
GROUPS = pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
CHEMISTRY = {"molecular_graph": True, "charge_and_spin": True}
ENERGY = Label("energy", "eV", "extensive")
GAP = Label("gap", "eV", "intensive")


def molecules(smiles=SMILES):
    return [embed_smiles(each, ConformerPolicy("etkdg")) for each in smiles]


def encoder(**kwargs):
    torch.manual_seed(0)
    return moved(SE3Transformer(small_config(**{**CHEMISTRY, **kwargs}))).double().eval()


def bare(structure):
    return replace(structure, molecular_graph=None)


@GROUPS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equivariance(group, dtype):
    model, graph = encoder(group=group).to(dtype), GraphBatch.from_structures(molecules(), dtype)
    rotation, matrix = rotation_and_matrix(2, dtype)
    with torch.no_grad():
        y = model(graph)
        error = (model(turned(graph, rotation, 3.0)) - matrix @ y).abs().max()
        mirror_error = (model(turned(graph, -torch.eye(3, dtype=dtype))) - parity(2, dtype) * y).abs().max()
    assert error < TOLERANCE[dtype]
    assert mirror_error < TOLERANCE[dtype] if group == "E(3)" else mirror_error > 1e-2


@GROUPS
def test_chirality_is_an_input_under_se3_alone(group):
    graph = GraphBatch.from_structures(molecules(), torch.float64)
    other = graph.atom_features.clone()
    other[:, 5] = 2 - other[:, 5]
    with torch.no_grad():
        model = encoder(group=group)
        change = (model(replace(graph, atom_features=other)) - model(graph)).abs().max()
    assert change == 0 if group == "E(3)" else change > 1e-3


def test_permutation_and_batches():
    model, structures = encoder(), molecules()
    orders = [np.random.default_rng(seed).permutation(len(each)) for seed, each in enumerate(structures)]
    with torch.no_grad():
        y = model(GraphBatch.from_structures(structures, torch.float64))
        permuted = model(
            GraphBatch.from_structures([s.select(o) for s, o in zip(structures, orders, strict=True)], torch.float64)
        )
        alone = torch.cat([model(GraphBatch.from_structures([each], torch.float64)) for each in structures])
    sizes = [len(each) for each in structures]
    expected = torch.cat([part[order] for part, order in zip(y.split(sizes), orders, strict=True)])
    assert torch.allclose(permuted, expected, atol=1e-10)
    assert torch.allclose(alone, y, atol=1e-10)


@pytest.mark.parametrize("column", range(6))
def test_every_feature_of_an_atom_is_an_input_of_its_node(column):
    model, graph = encoder(), GraphBatch.from_structures(molecules(), torch.float64)
    other = graph.atom_features.clone()
    other[0, column] += 1 if other[0, column] == 0 else -1
    with torch.no_grad():
        change = model.embed_nodes(replace(graph, atom_features=other)) - model.embed_nodes(graph)
    assert (change.abs().flatten(1).amax(1) > 1e-6).nonzero().flatten().tolist() == [0]


def test_a_bond_is_an_input_of_its_edges():
    model, graph = encoder(), GraphBatch.from_structures(molecules(), torch.float64)
    other = graph.bond_features.clone()
    other[0, 0] = 3
    with torch.no_grad():
        before, after = model.embed_edges(graph), model.embed_edges(replace(graph, bond_features=other))
    changed = (after.features - before.features).abs().amax(1) > 1e-9
    pair = set(graph.bonds[0].tolist())
    assert {
        frozenset(ends) for ends in zip(before.src[changed].tolist(), before.dst[changed].tolist(), strict=True)
    } == {frozenset(pair)}


def test_without_bonds_is_the_same_as_with_bonds_dropped():
    structures = molecules()
    model = encoder(drop_graph=1.0)
    with torch.no_grad():
        with_graph = model(GraphBatch.from_structures(structures, torch.float64))
        without = model(GraphBatch.from_structures([bare(each) for each in structures], torch.float64))
        mixed = model(GraphBatch.from_structures([bare(structures[0]), *structures[1:]], torch.float64))
        dropped = model.train()(GraphBatch.from_structures(structures, torch.float64))
    first = len(structures[0])
    assert torch.allclose(dropped, without, atol=1e-12)
    assert torch.allclose(mixed[:first], without[:first], atol=1e-12)
    assert torch.allclose(mixed[first:], with_graph[first:], atol=1e-12)
    assert (with_graph - without).abs().max() > 1e-2


def test_graphs_are_dropped_in_training_for_whole_structures_alone():
    model = encoder(drop_graph=0.5)
    graph = GraphBatch.from_structures(molecules(["CC"] * 40), torch.float64)
    assert model.chemistry.drop_graphs(graph) is graph  # in evaluation
    torch.manual_seed(0)
    features = model.train().chemistry.drop_graphs(graph).atom_features
    lost = (features == -128).all(1).view(40, -1)
    assert (lost.all(1) == lost.any(1)).all()
    assert 5 < lost.all(1).sum() < 35


def ionisation_error(**kwargs):
    """Largest error of energies, eV, after a few steps on neutral molecules and cations of the same geometries."""
    torch.manual_seed(0)
    neutral = molecules(["O", "CO", "N", "CC"])
    cations = [replace(each, charge=1, molecular_graph=None, spin=1) for each in neutral]
    energies = torch.tensor([0.0, -1.0, 0.5, -2.0, 12.6, 9.9, 10.6, 9.5], dtype=torch.float64)
    config = SE3TransformerConfig(lmax=1, channels=16, num_layers=1, num_heads=2, edge_features=16, **kwargs)
    model = PropertyModel(config, [ENERGY]).train()
    graph = GraphBatch.from_structures([*map(bare, neutral), *cations])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        error = model(graph)["energy"] - energies
        error.square().mean().backward()
        optimizer.step()
    return float(error.detach().abs().max())


def test_an_ionisation_energy_is_learnt_from_charge_and_spin():
    assert ionisation_error(charge_and_spin=True) < 0.5
    assert ionisation_error() > 4.0


def test_charge_and_multiplicity_change_the_features():
    model, water = encoder(), molecules(["O"])[0]
    states = [water, replace(water, charge=2), replace(water, spin=3)]
    with torch.no_grad():
        y, cation, triplet = model(GraphBatch.from_structures(states, torch.float64)).split(3)
        far = model(GraphBatch.from_structures([replace(water, charge=40, spin=99)], torch.float64))
    assert min((cation - y).abs().max(), (triplet - y).abs().max(), (cation - triplet).abs().max()) > 1e-3
    assert far.isfinite().all()


def test_an_old_config_has_no_new_weights():
    names = set(PropertyModel(small_config(), [GAP]).state_dict())
    assert not any("chemistry" in name for name in names)
    assert set(PropertyModel(small_config(**CHEMISTRY), [GAP]).state_dict()) > names


@pytest.mark.parametrize("hydrogens", ["explicit", "implicit"])
def test_saved_checked_and_predicted_with(tmp_path, hydrogens):
    config = small_config(hydrogens=hydrogens, **CHEMISTRY)
    model = moved(PropertyModel(config, [GAP])).eval()
    assert all(check.passed for check in check_model(model))
    model.save(tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model")
    ethanol = embed_smiles("CCO")
    from_smiles, given, without = predictor.predict(["CCO", ethanol, bare(ethanol)])
    assert np.isclose(from_smiles["gap"].value, given["gap"].value, atol=1e-5)
    assert from_smiles.structure.formula == "C2H6O"
    if hydrogens == "implicit":
        assert without.status == "invalid_input"
        assert "it has no bonds" in without.message
        assert len(predictor.embed("CCO", level="atom")[0]) == 3
    else:
        assert without.status == "ok"
        assert not np.isclose(without["gap"].value, given["gap"].value, atol=1e-3)


def test_charges_of_heavy_atoms_are_given_for_all_atoms():
    model = small_model([Label("q", "e", "charges")], molecular_graph=True, hydrogens="implicit", charge_and_spin=True)
    ion, alcohol = Predictor(model).predict(["C[NH3+]", "CO"])
    assert ion["q"].value.shape == (8,)
    assert ion["q"].value.sum() == pytest.approx(1.0, abs=1e-6)
    assert alcohol["q"].value.sum() == pytest.approx(0.0, abs=1e-6)
    assert np.flatnonzero(alcohol["q"].value).tolist() == [0, 1]


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="molecular_graph is not for architecture 'paper'"):
        small_config(architecture="paper", molecular_graph=True)
    with pytest.raises(ConfigError, match=r"drop_graph is 0\.5; use a probability, with molecular_graph, or 0"):
        small_config(drop_graph=0.5)
    with pytest.raises(ConfigError, match="hydrogens 'implicit' needs molecular_graph"):
        small_config(hydrogens="implicit")
    implicit = small_config(molecular_graph=True, hydrogens="implicit")
    with pytest.raises(ConfigError, match="target 'forces' of kind 'forces' needs all atoms"):
        PropertyModel(implicit, [ENERGY, Label("forces", "eV/Å", "forces")])
    with pytest.raises(ConfigError, match="ASE has no bonds"):
        MolformerCalculator(PropertyModel(implicit, [ENERGY]))
    models = [PropertyModel(config, [GAP]) for config in (implicit, small_config(molecular_graph=True))]
    with pytest.raises(ModelError, match="all take hydrogens as atoms, or none"):
        Predictor(models)


def test_heavy_atoms_need_a_graph():
    from molformer.data.hydrogens import heavy_atoms

    with pytest.raises(InputError, match=r"H2: the model takes heavy atoms alone .* \(--bonds perceive\)"):
        heavy_atoms(Structure([1, 1], [[0, 0, 0], [0, 0, 0.7]]))
