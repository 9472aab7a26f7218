import sys

import numpy as np
import pytest
import torch

from molformer.data.interop import from_pyg, structure_from_pyg, to_pyg
from molformer.data.structure import Structure
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch
from molformer.graph.neighbors import radius_edges
from tests.helpers import random_structure

pyg = pytest.importorskip("torch_geometric.data", reason="PyTorch Geometric is not installed")


def batch(edges=True):
    structures = [
        random_structure(
            n, seed=n, charge=n - 4, spin=4, features=np.full((n, 2), n), labels={"gap": n, "mask": np.ones(n)}
        )
        for n in (5, 3, 4)
    ]
    result = GraphBatch.from_structures(structures)
    if edges:
        result.src, result.dst = radius_edges(result.pos, result.ptr, 3.0)
        result.shift = torch.arange(3 * len(result.src)).reshape(-1, 3)
    return result


@pytest.mark.parametrize("edges", [True, False])
def test_a_batch_survives_the_round_trip(edges):
    graph = batch(edges)
    data = to_pyg(graph)
    assert data.validate()
    back = from_pyg(data, labels=graph.labels)
    for name, value in vars(graph).items():
        found = getattr(back, name)
        if name == "labels":
            assert {key: item.tolist() for key, item in found.items()} == {k: v.tolist() for k, v in value.items()}
        else:
            assert (found is None and value is None) or torch.equal(found, value), name


def test_a_structure_survives_the_round_trip():
    cell = np.diag([4.0, 5, 6])
    structure = random_structure(
        5, charge=-1, cell=cell, pbc=(True, False, True), labels={"gap": 3.5, "dipole": [1, 2, 3], "mask": np.arange(5)}
    )
    back = structure_from_pyg(to_pyg(structure), labels=structure.labels, name="mine")
    assert back.name == "mine"
    assert (back.charge, back.spin) == (-1, structure.spin)
    assert np.array_equal(back.cell, cell)
    assert back.pbc == (True, False, True)
    assert np.array_equal(back.numbers, structure.numbers)
    assert np.allclose(back.pos, structure.pos, atol=1e-6)
    assert {name: value.tolist() for name, value in back.labels.items()} == {
        name: value.tolist() for name, value in structure.labels.items()
    }


def test_a_batch_that_pyg_made_is_the_batch_that_we_make():
    structures = [random_structure(n, seed=n, labels={"y": n}) for n in (4, 6)]
    back = from_pyg(pyg.Batch.from_data_list([to_pyg(structure) for structure in structures]))
    expected = GraphBatch.from_structures(structures)
    for name in ("numbers", "pos", "ptr", "batch", "charge"):
        assert torch.equal(getattr(back, name), getattr(expected, name)), name
    assert back.labels["y"].tolist() == [4, 6]


def test_edges_go_from_source_to_target_and_come_sorted():
    data = pyg.Data(pos=torch.zeros(3, 3), edge_index=torch.tensor([[2, 0, 1], [0, 1, 0]]))
    data.shift = torch.tensor([[2, 0, 0], [0, 1, 0], [1, 0, 0]])
    back = from_pyg(data)
    assert list(zip(back.src.tolist(), back.dst.tolist(), strict=True)) == [(1, 0), (2, 0), (0, 1)]
    assert back.shift.tolist() == [[1, 0, 0], [2, 0, 0], [0, 1, 0]]
    assert back.numbers.tolist() == [0, 0, 0]
    assert back.charge.tolist() == [0]


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match="no positions"):
        from_pyg(pyg.Data(x=torch.zeros(3, 3)))
    with pytest.raises(InputError, match="no label 'gap'"):
        from_pyg(pyg.Data(pos=torch.zeros(3, 3)), labels=["gap"])
    with pytest.raises(InputError, match="be contiguous"):
        from_pyg(pyg.Data(pos=torch.zeros(3, 3), batch=torch.tensor([0, 1, 0])))
    with pytest.raises(InputError, match="2 graphs"):
        structure_from_pyg(pyg.Data(pos=torch.zeros(3, 3), batch=torch.tensor([0, 1, 1])))
    with pytest.raises(InputError, match="name 'pos'"):
        to_pyg(random_structure(3, labels={"pos": 1.0}))


def test_without_the_package_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(ConfigError, match=r"pip install 'molformer\[pyg\]'"):
        to_pyg(Structure([1], [[0, 0, 0]]))
