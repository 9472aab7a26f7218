"""The loop of the contest learns, and its molecules are those of the store."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks import contest as contest_script
from benchmarks.own import network
from benchmarks.peers.contest import Contest, run
from molformer.data.store import write_store
from molformer.data.structure import Label
from tests.helpers import random_structure


@pytest.fixture
def file(tmp_path):
    """Molecules whose label is the share of their atoms that are oxygen."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(3, 9, size=120)
    numbers = generator.choice([1, 6, 8], size=sizes.sum())
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    label = np.array([(numbers[a:b] == 8).mean() for a, b in pairwise(ptr)])
    pos = 3 * generator.normal(size=(len(numbers), 3)).astype(np.float32)
    path = tmp_path / "molecules.npz"
    np.savez(path, numbers=numbers, pos=pos, ptr=ptr, label=label, train=np.arange(100), test=np.arange(100, 120))
    return path


def test_the_loop_learns_and_tests_the_average_of_the_weights(file):
    def shares(options):
        assert options == {"size": 9}
        values = torch.nn.Embedding(9, 1)

        def of(numbers, pos, batch):
            sums = torch.zeros(int(batch.max()) + 1).index_add(0, batch, values(numbers)[:, 0])
            return sums / torch.bincount(batch)

        return values, of

    data = np.load(file)
    spread = np.abs(data["label"][100:] - data["label"][:100].mean()).mean()
    result = run(Contest(str(file), seconds=1.5, rate=0.05, batch=10, clock="cpu", options={"size": 9}), shares)
    assert result.parameters == 9
    assert result.seen > 100
    assert 0 < result.half_width < spread
    assert result.error < 0.5 * spread


def test_this_package_takes_part(file):
    result = run(Contest(str(file), seconds=0.1, rate=0.001, batch=4, options={"preset": "small"}), network)
    assert result.seen >= 4
    assert np.isfinite(result.error)


def test_the_molecules_are_those_of_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(contest_script, "SPLIT", (6, 1, 3))
    structures = [random_structure(3 + number % 3, seed=number) for number in range(10)]
    for number, structure in enumerate(structures):
        structure.labels["homo"] = np.array(float(number))
    store = write_store(tmp_path / "store", structures, [Label("homo", "Ha", "intensive")])
    contest_script.write(store, "homo", tmp_path / "molecules.npz")
    data = np.load(tmp_path / "molecules.npz")
    assert (len(data["train"]), len(data["test"])) == (6, 3)
    for row in range(9):
        atoms = slice(*data["ptr"][row : row + 2])
        original = structures[round(data["label"][row] / 27.211386245988)]
        assert data["numbers"][atoms].tolist() == original.numbers.tolist()
        assert np.allclose(data["pos"][atoms], original.pos, atol=1e-5)
