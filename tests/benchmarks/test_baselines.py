import numpy as np
import pytest

from benchmarks.baselines import BASELINES
from molformer.data.datamodule import MoleculeDataModule
from molformer.data.splits import SplitPolicy
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.units import factor

LABELS = [Label("dipole", "e·a0", "vector"), Label("charges", "e", "charges"), Label("energy", "eV", "extensive")]


@pytest.fixture
def data(tmp_path):
    """Molecules whose dipoles are those of their charges, and whose energies are sums over atoms."""
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(40):
        numbers = rng.choice([1, 6, 8], size=rng.integers(2, 7))
        pos = rng.normal(size=(len(numbers), 3))
        charges = rng.normal(size=len(numbers))
        charges -= charges.mean()
        dipole = charges @ pos / factor("a0", "Å")
        labels = {"dipole": dipole, "charges": charges, "energy": 13.6 * numbers.sum()}
        structures.append(Structure(numbers, pos, labels=labels))
    store = write_store(tmp_path / "store", structures, LABELS)
    return MoleculeDataModule(store, [label.name for label in LABELS], SplitPolicy(fractions=(0.6, 0.2, 0.2)))


def truth(data, name):
    return data.store.column(name)[data.split.test]


def test_point_charges_give_their_dipole(data):
    prediction = BASELINES["Mulliken charges"](data, LABELS[0])
    np.testing.assert_allclose(prediction, truth(data, "dipole"), atol=1e-5)


def test_composition_finds_sums_over_atoms(data):
    np.testing.assert_allclose(BASELINES["composition"](data, LABELS[2]), truth(data, "energy"), rtol=1e-9)


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.name)
def test_mean_has_the_layout_of_the_label(data, label):
    prediction = BASELINES["mean"](data, label)
    atoms = data.store.sizes[data.split.test].sum()
    assert prediction.shape == ((atoms if label.per_node else len(data.split.test)), *label.shape)
    if not label.per_node:
        np.testing.assert_allclose(prediction[0], data.store.column(label.name)[data.split.train].mean(axis=0))
