"""Models for the tests of predictions: one with moved weights, and one that was trained on forces in seconds."""

import numpy as np
import pytest
import torch

from molformer.data.structure import Label, Structure
from molformer.graph import GraphBatch
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, small_config

TARGETS = [Label("gap", "eV", "intensive"), Label("dipole", "D", "vector"), Label("charges", "e", "charges")]
ORGANIC = Domain((1, 6, 7, 8), 20, ("etkdg+mmff", "given"))
WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
STIFFNESS = np.array([40.0, 40.0, 10.0])  # eV/Å² of O-H, O-H and H-H


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model folder inside a run folder."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model"
    moved(PropertyModel(small_config(), TARGETS, domain=ORGANIC)).save(path)
    return str(path)


@pytest.fixture(scope="session")
def members(tmp_path_factory, folder):
    """Folders of three models that predict the same with other weights."""
    folders = [folder]
    for seed in (1, 2):
        torch.manual_seed(seed)
        folders.append(str(tmp_path_factory.mktemp("member")))
        moved(PropertyModel(small_config(), TARGETS, domain=ORGANIC)).save(folders[-1])
    return folders


def springs(pos):
    """Energy and forces of a water molecule of three springs."""
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    arms = pos[pairs[:, 1]] - pos[pairs[:, 0]]
    lengths = np.linalg.norm(arms, axis=1)
    rest = np.linalg.norm(WATER[pairs[:, 1]] - WATER[pairs[:, 0]], axis=1)
    pull = (STIFFNESS * (lengths - rest) / lengths)[:, None] * arms
    forces = np.zeros((3, 3))
    np.add.at(forces, pairs[:, 0], pull)
    np.add.at(forces, pairs[:, 1], -pull)
    return 0.5 * float((STIFFNESS * (lengths - rest) ** 2).sum()), forces


@pytest.fixture(scope="session")
def force_model():
    """A model of water that has learnt its springs."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(64):
        pos = WATER + 0.07 * generator.standard_normal((3, 3))
        energy, forces = springs(pos)
        frames.append(Structure([8, 1, 1], pos, labels={"energy": energy, "forces": forces}))
    targets = [Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces"), Label("dipole", "D", "vector")]
    config = small_config(lmax=1, channels=16, num_layers=1, cutoff=4.0)
    model = PropertyModel(config, targets, domain=Domain((1, 8), 3, ("given",)))
    model.head("energy").set_statistics(0.5, torch.zeros(119), 3.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps = 250
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    model.train()
    batches = [GraphBatch.from_structures(frames[start : start + 32]) for start in (0, 32)]
    for step in range(steps):
        graph = batches[step % 2]
        values = model(graph)
        loss = (values["forces"] - graph.labels["forces"]).square().mean()
        loss = loss + (values["energy"] - graph.labels["energy"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()
