"""Losses that need no labels: what they hide, and what they measure."""

import numpy as np
import pytest
import torch
from torch import nn

from molformer.data.conformers import embed_smiles
from molformer.data.datamodule import MoleculeDataModule
from molformer.elements import MAX_NUMBER
from molformer.graph import GraphBatch
from molformer.molecular_graph import UNKNOWN
from molformer.training.objectives import CLIP, Denoising, Descriptors, Masking, robust_statistics
from tests.helpers import random_graph, random_structure
from tests.training.test_task import task

CHANNELS = 8


def features(graph, seed=0):
    return torch.randn(len(graph.pos), 4, CHANNELS, generator=torch.Generator().manual_seed(seed))


def many(count=400):
    return GraphBatch.from_structures([random_structure(10, seed=seed) for seed in range(count)])


def test_noise_has_its_size_and_shifts_no_molecule():
    graph = many()
    corrupted = Denoising(CHANNELS, 0.05).corrupt(graph)
    noise = corrupted.pos - graph.pos
    assert noise.std().item() == pytest.approx(0.05 * (9 / 10) ** 0.5, rel=0.05)  # less the mean of ten atoms
    assert graph.mean_over_graphs(noise).abs().max() < 1e-6
    assert torch.equal(corrupted.numbers, graph.numbers)


def test_who_reads_the_noise_has_no_loss(monkeypatch):
    graph = random_graph()
    objective = Denoising(CHANNELS, 0.1)
    corrupted = objective.corrupt(graph)
    monkeypatch.setattr(objective.head, "forward", lambda x, graph: (corrupted.pos - random_graph().pos) / 0.1)
    total, count = objective(features(graph), corrupted, graph)
    assert total.item() == pytest.approx(0, abs=1e-12)
    assert count == len(graph.pos)


def test_half_of_the_molecules_stay_whole_and_hydrogens_are_never_hidden():
    graph = many()
    corrupted = Masking(CHANNELS, 0.3).corrupt(graph)
    hidden = corrupted.numbers != graph.numbers
    assert (corrupted.numbers[hidden] == 0).all()
    assert (graph.numbers[hidden] > 1).all()
    touched = graph.sum_over_graphs(hidden.double()) > 0
    assert touched.double().mean().item() == pytest.approx(0.5, abs=0.1)
    heavy = (graph.numbers > 1) & touched[graph.batch]
    assert hidden[heavy].double().mean().item() == pytest.approx(0.3, abs=0.05)


def test_only_hidden_atoms_count():
    graph = many(20)
    objective = Masking(CHANNELS, 0.5)
    corrupted = objective.corrupt(graph)
    x = features(graph).requires_grad_()
    total, count = objective(x, corrupted, graph)
    hidden = corrupted.numbers != graph.numbers
    assert count == hidden.sum()
    total.backward()
    assert torch.equal(x.grad.flatten(1).abs().sum(1) > 0, hidden)
    nothing, none = objective(x, graph, graph)
    assert nothing.item() == none.item() == 0


def test_hidden_atoms_lose_their_chemistry_and_bonds_whose_orders_are_read():
    molecules = [embed_smiles(smiles) for smiles in ("CC(=O)NC#N", "c1ccncc1O") * 20]
    graph, objective = GraphBatch.from_structures(molecules), Masking(CHANNELS, 0.5)
    corrupted = objective.corrupt(graph)
    hidden = corrupted.numbers != graph.numbers
    assert (corrupted.atom_features[hidden] == UNKNOWN).all()
    assert torch.equal(corrupted.atom_features[~hidden], graph.atom_features[~hidden])
    assert not hidden[corrupted.bonds].any()
    lost = hidden[graph.bonds].any(1)
    assert len(corrupted.bonds) == len(graph.bonds) - lost.sum()
    # A head that always says "single" is wrong where a lost bond is another one.
    nn.init.zeros_(objective.bonds[-1].weight)
    nn.init.zeros_(objective.bonds[-1].bias)
    objective.bonds[-1].bias.data[1] = 50.0
    objective.head = nn.Identity()
    certain = torch.zeros(len(graph.pos), 4, MAX_NUMBER + 1)
    certain[torch.arange(len(graph.pos)), 0, graph.numbers] = 50.0
    objective.bonds[0] = nn.Linear(MAX_NUMBER + 1, CHANNELS)
    total, count = objective(certain, corrupted, graph)
    assert count == hidden.sum() + lost.sum()
    assert total.item() == pytest.approx(50.0 * (graph.bond_features[lost, 0] != 1).sum().item(), rel=1e-4)


def test_statistics_withstand_outliers_and_missing_values():
    random = np.random.default_rng(0)
    values = 5 + 2 * random.standard_normal((10_000, 5))
    values[:20, 0] = 1e12
    values[:5000, 1] = np.nan
    values[:, 2] = 7
    values[:, 3] = np.nan
    values[:, 4] = np.arange(10_000) < 50  # a rare group
    centre, spread = robust_statistics(values)
    assert centre[:2] == pytest.approx([5, 5], abs=0.1)
    assert spread[:2] == pytest.approx([1.96, 1.96], abs=0.1)
    assert spread[2:4].tolist() == [0, 0]
    assert spread[4] == pytest.approx(values[:, 4].std())


def test_descriptors_are_scaled_clipped_and_left_out_where_missing(monkeypatch):
    graph = random_graph(sizes=(5, 4))
    objective = Descriptors(CHANNELS, ["a", "b", "constant"])
    objective.centre.copy_(torch.tensor([1.0, 0, 3]))
    objective.spread.copy_(torch.tensor([2.0, 1, 0]))
    graph.labels = {
        "a": torch.tensor([4.0, torch.nan]),
        "b": torch.tensor([0.5, 1e9]),
        "constant": torch.tensor([3.0, 3.0]),
    }
    monkeypatch.setattr(objective.head, "forward", lambda x, graph: torch.zeros(2, 3, dtype=torch.float64))
    total, count = objective(features(graph), graph, graph)
    assert count == 3
    assert total.item() == pytest.approx((1.5 - 0.5) + 0.5**3 + (CLIP - 0.5))  # Huber: linear above 1


def test_heads_keep_the_references_of_hidden_elements(store):
    """An energy of -10 eV an atom would be wrong by as much for every atom without its element."""
    data = MoleculeDataModule(store, ["energy"], batch_size=8)
    graph = next(iter(data.train_dataloader()))
    whole = task(data, store, targets=["energy"]).losses(graph)["energy"]
    masked = task(data, store, targets=["energy"], objectives={"masking": 1.0}, mask=1.0)
    losses = masked._training_losses(graph)
    assert losses["energy"] < 3 * whole
    assert losses["masking"] > 0


def test_objectives_without_a_corruption_are_measured_on_the_validation_part(store, tmp_path):
    data = MoleculeDataModule(store, ["gap"], batch_size=8)
    network = task(data, store, targets=["gap"], objectives={"masking": 1.0}, noise=0.1)
    network.on_validation_epoch_start()
    network.validation_step(next(iter(data.val_dataloader())), 0)
    assert set(network.validation_losses()) == {"loss", "gap"}
