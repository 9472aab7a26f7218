import numpy as np
import pytest
import torch

from molformer.data.datamodule import MoleculeDataModule, StoreDataset
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.graph.neighbors import radius_edges
from tests.helpers import random_graph, random_structure


@pytest.mark.parametrize("cutoff", [0.5, 2.0, 100.0])
def test_edges_are_those_of_a_tree_search(cutoff):
    from scipy.spatial import cKDTree

    graph = random_graph((9, 1, 14))
    src, dst = radius_edges(graph.pos, graph.ptr, cutoff)
    expected = set()
    for start, end in zip(graph.ptr[:-1].tolist(), graph.ptr[1:].tolist(), strict=True):
        for a, b in cKDTree(graph.pos[start:end].numpy()).query_pairs(cutoff):
            expected |= {(start + a, start + b), (start + b, start + a)}
    assert set(zip(src.tolist(), dst.tolist(), strict=True)) == expected
    assert len(src) == len(expected)
    assert (dst.diff() >= 0).all()


def test_sums_and_means_over_graphs():
    graph = random_graph((3, 2))
    x = torch.arange(5.0)
    assert graph.sum_over_graphs(x).tolist() == [3.0, 7.0]
    assert graph.mean_over_graphs(x[:, None]).tolist() == [[1.0], [3.5]]
    assert graph.sizes.tolist() == [3, 2]


def test_a_batch_cut_from_a_store_equals_the_collated_structures(tmp_path):
    labels = [Label("gap", "eV", "intensive"), Label("forces", "eV/Å", "forces")]
    members = [
        random_structure(n, seed=n, charge=n, labels={"gap": n, "forces": np.full((n, 3), n)}) for n in (3, 5, 2, 4)
    ]
    store = write_store(tmp_path / "set", members, labels)
    batch = StoreDataset(store, np.array([2, 0, 3]), labels)[[0, 2]]
    expected = GraphBatch.from_structures([members[2], members[3]])
    for name in ("numbers", "pos", "ptr", "batch", "charge"):
        assert torch.allclose(getattr(batch, name), getattr(expected, name)), name
    for name in ("gap", "forces"):
        assert torch.allclose(batch.labels[name].double(), expected.labels[name])


def test_batches_can_be_bounded_by_atoms_or_edges(tmp_path):
    members = [random_structure(2 + n % 5, seed=n, labels={"gap": n}) for n in range(40)]
    path = str(write_store(tmp_path / "set", members, [Label("gap", "eV", "intensive")]).path)
    by_atoms = list(MoleculeDataModule(path, ["gap"], batch_atoms=12).train_dataloader())
    by_edges = list(MoleculeDataModule(path, ["gap"], batch_edges=40).train_dataloader())
    assert max(len(batch.pos) for batch in by_atoms) <= 12
    assert max(int((batch.sizes * (batch.sizes - 1)).sum()) for batch in by_edges) <= 40
    assert sum(batch.num_graphs for batch in by_atoms) == sum(batch.num_graphs for batch in by_edges) == 32
    with pytest.raises(ConfigError, match="not by both"):
        MoleculeDataModule(path, ["gap"], batch_atoms=12, batch_edges=40)


def test_batches_cover_the_parts_and_come_in_a_seeded_order(tmp_path):
    members = [random_structure(3, seed=n, labels={"gap": n}) for n in range(40)]
    path = write_store(tmp_path / "set", members, [Label("gap", "eV", "intensive")]).path
    data = MoleculeDataModule(str(path), ["gap"], batch_size=4)
    first = [batch.labels["gap"].tolist() for batch in data.train_dataloader()]
    again = [batch.labels["gap"].tolist() for batch in data.train_dataloader()]
    assert first == again
    assert sorted(np.concatenate(first)) == data.split.train.tolist()
    assert first != sorted(first)
    test = [batch.labels["gap"].tolist() for batch in data.test_dataloader()]
    assert np.concatenate(test).tolist() == data.split.test.tolist()


def test_a_pass_has_each_structure_as_often_as_its_geometry_says(tmp_path):
    methods = ["given", "etkdg", "etkdg+mmff"]
    members = [random_structure(3, seed=n, labels={"gap": n}, geometry=methods[n % 3]) for n in range(60)]
    store = write_store(tmp_path / "set", members, [Label("gap", "eV", "intensive")])
    data = MoleculeDataModule(store, ["gap"], batch_size=1, repeats={"given": 2, "etkdg": 0})
    seen = sorted(int(batch.labels["gap"]) for batch in data.train_dataloader())
    assert seen == sorted(n for n in data.split.train for _ in range({0: 2, 1: 0, 2: 1}[n % 3]))
    assert sum(batch.num_graphs for batch in data.val_dataloader()) == len(data.split.val)
    assert data.statistics()["gap"].scale == MoleculeDataModule(store, ["gap"]).statistics()["gap"].scale
    with pytest.raises(ConfigError, match="names 'dft'; the store has given, etkdg, etkdg\\+mmff"):
        MoleculeDataModule(store, ["gap"], repeats={"dft": 2})
    with pytest.raises(ConfigError, match="leaves no structure"):
        MoleculeDataModule(store, ["gap"], repeats=dict.fromkeys(methods, 0)).train_dataloader()
