"""Vectors per atom, and forces and stress of crystals: from a store through training to predictions and a table."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from molformer.cli.rows import screen_headings
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.inference import Predictor
from molformer.inference.table import Layout
from molformer.inference.writers import open_writer
from molformer.training.run import train
from tests.helpers import small_config
from tests.training.test_run import training

CRYSTALS = [
    Label("energy", "eV", "extensive"),
    Label("forces", "eV/Å", "forces"),
    Label("stress", "GPa", "stress"),
    Label("velocities", "", "atom_vector"),
]


def crystal(seed):
    """Two atoms that repel each other by (1 - r/4 Å)³ eV, in a cell that is strained at random or, at times, alone."""
    random = np.random.default_rng(seed)
    periodic = seed % 3 != 0
    cell = np.diag([4.4, 3.2, 3.6]) + 0.3 * random.normal(size=(3, 3))
    pos = np.array([[0.0, 0.0, 0.0], [1.9, 0.5, 0.3]]) + 0.3 * random.normal(size=(2, 3))
    atoms = Atoms("HH", pos, cell=cell, pbc=periodic)
    first, length, arm = neighbor_list("idD", atoms, 4.0)  # arms from first to second, images too
    slope = -0.75 * (1 - length / 4) ** 2 / length
    forces = np.zeros((2, 3))
    np.add.at(forces, first, slope[:, None] * arm)
    stress = 0.5 * (slope[:, None, None] * arm[:, :, None] * arm[:, None]).sum(0) / atoms.get_volume() * 160.2177
    labels = {
        "energy": 0.5 * ((1 - length / 4) ** 3).sum(),
        "forces": forces,
        "stress": stress if periodic else np.full((3, 3), np.nan),
        "velocities": 2 * forces,
    }
    return Structure(atoms.numbers, pos, cell=cell if periodic else None, labels=labels)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    members = [crystal(seed) for seed in range(90)]
    return str(write_store(tmp_path_factory.mktemp("data") / "crystals", members, CRYSTALS).path)


def test_energy_forces_stress_and_velocities_are_trained_together(store, tmp_path):
    settings = training(
        store, tmp_path / "run", targets=[label.name for label in CRYSTALS], epochs=12, learning_rate=0.005
    )
    result = train(small_config(num_layers=1, cutoff=4.0), settings)
    errors = {row.target.name: row for row in result.errors}
    for name in ("energy", "forces", "stress", "velocities"):
        assert errors[name].error < 0.6 * errors[name].error_mean, name
    predictor = Predictor.load(result.folder)
    rows = predictor.predict([crystal(seed) for seed in (100, 102)])
    assert rows[0]["stress"].value.shape == (3, 3)
    assert np.isfinite(rows[0]["stress"].value).all()
    assert np.isnan(rows[1]["stress"].value).all()
    assert rows[1]["velocities"].value.shape == (2, 3)
    with open_writer(tmp_path / "out.csv", Layout.of(rows, predictor.model.targets)) as file:
        for row in rows:
            file.write(row)
    with open(tmp_path / "out.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["stress_xy (GPa)"]) == pytest.approx(rows[0]["stress"].value[0, 1], abs=1e-5)
    assert table[1]["stress_zz (GPa)"] == "nan"
    assert len(table[0]["velocities"].split()) == 6
    assert screen_headings(predictor.model.targets) == ["energy\neV", "|stress|\nGPa"]
