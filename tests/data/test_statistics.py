import numpy as np
import pytest

from molformer.data.statistics import atom_rows, labelled_values, target_statistics
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError
from tests.helpers import random_structure

ENERGY, GAP = Label("energy", "eV", "extensive"), Label("gap", "eV", "intensive")
CHARGES, DIPOLE = Label("charges", "e", "charges"), Label("dipole", "D", "vector")
LATER = [
    Label("velocities", "", "atom_vector"),
    Label("forces", "eV/Å", "forces"),
    Label("stress", "GPa", "stress"),
]
REFERENCES = {1: -0.5, 6: -38.0, 7: -54.0, 8: -75.0}


@pytest.fixture
def store(tmp_path):
    members = []
    for seed in range(40):
        structure = random_structure(4 + seed % 5, seed=seed)
        values = np.array([REFERENCES[number] for number in structure.numbers])
        labels = {
            "energy": values.sum() if seed else np.nan,
            "gap": values.mean(),
            "charges": values,
            "dipole": [3.0, 0, 4.0],
            "velocities": np.tile([3.0, 0, 4.0], (len(structure), 1)) * (1 if seed else np.nan),
            "forces": np.tile([0.0, 5.0, 0.0], (len(structure), 1)),
            "stress": np.full((3, 3), 0.5) if seed % 2 else np.full((3, 3), np.nan),
        }
        members.append(random_structure(4 + seed % 5, seed=seed, labels=labels, cell=9 * np.eye(3)))
    return write_store(tmp_path / "set", members, [ENERGY, GAP, CHARGES, DIPOLE, *LATER])


@pytest.mark.parametrize("label", [ENERGY, GAP, CHARGES])
def test_references_are_found_by_least_squares_whatever_is_missing(store, label):
    statistics = target_statistics(store, np.arange(40), label)
    for number, value in REFERENCES.items():
        assert statistics.references[number] == pytest.approx(value, abs=1e-3)
    assert statistics.scale < 1e-3 or label is CHARGES  # a target without any spread has scale 1
    assert statistics.size == pytest.approx(store.sizes.mean())


def test_scale_of_a_vector_is_that_of_its_components(store):
    assert target_statistics(store, np.arange(40), DIPOLE).scale == pytest.approx(np.sqrt(25 / 3))


def test_scale_of_vectors_of_atoms_forces_and_stress_is_that_of_their_components(store):
    scales = [target_statistics(store, np.arange(40), label).scale for label in LATER]
    assert scales == pytest.approx([np.sqrt(25 / 3), np.sqrt(25 / 3), 0.5])
    assert not any(target_statistics(store, np.arange(40), label).references.any() for label in LATER)


def test_other_structures_have_no_influence(store):
    chosen = np.arange(5, 20)
    values, _ = labelled_values(store, chosen, ENERGY)
    assert len(values) == 15
    numbers = np.concatenate([store[int(index)].numbers for index in chosen])
    assert np.array_equal(store.column("numbers")[atom_rows(store, chosen)], numbers)


def test_a_target_without_labels_is_refused(store):
    with pytest.raises(ConfigError, match="no structure of the training part has a value of 'energy'"):
        target_statistics(store, np.array([0]), ENERGY)


def test_tensors_and_values_of_atoms_have_references(tmp_path):
    """The isotropic part of a tensor is a sum over atoms; a value of an atom is near the mean of its element."""
    labels = [Label("alpha", "a0^3", "tensor"), Label("shift", "", "atom")]
    members = []
    for seed in range(30):
        structure = random_structure(4 + seed % 5, seed=seed)
        values = np.array([REFERENCES[number] for number in structure.numbers])
        members.append(structure.annotated(labels={"alpha": values.sum() * np.eye(3), "shift": values}))
    store = write_store(tmp_path / "set", members, labels)
    for label in labels:
        found = target_statistics(store, np.arange(30), label)
        assert found.references[list(REFERENCES)] == pytest.approx(list(REFERENCES.values()), abs=1e-6)
