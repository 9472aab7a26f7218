from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.structure import Label
from molformer.graph import GraphBatch
from molformer.models import PropertyModel
from molformer.models.equivariance import equivariance_error
from tests.helpers import moved, random_structure, small_config, small_model

TARGETS = [
    Label("energy", "eV", "extensive"),
    Label("dipole", "D", "vector"),
    Label("alpha", "a0^3", "tensor"),
    Label("velocities", "", "atom_vector"),
    Label("forces", "eV/Å", "forces"),
    Label("stress", "GPa", "stress"),
    Label("active", "", "binary"),
]


@pytest.fixture
def graph():
    """A crystal and a molecule, in the precision in which a store gives them."""
    crystal = random_structure(4, cell=np.diag([4.0, 4.5, 5.0]))
    return GraphBatch.from_structures([crystal, random_structure(5, seed=1)])


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_a_model_is_equivariant_in_both_precisions(graph, dtype, most):
    errors = equivariance_error(moved(PropertyModel(small_config(), TARGETS)), graph, dtype)
    assert set(errors) == {target.name for target in TARGETS}
    assert all(0 < error < most for error in errors.values()), errors


@pytest.mark.parametrize("name", ["dipole", "velocities", "forces", "stress"])
def test_broken_equivariance_is_detected(graph, name, monkeypatch):
    """A model that reads the x of the positions where it must not."""
    model = small_model(TARGETS)
    readout = type(model).readout

    def broken(self, x, batch):
        values = readout(self, x, batch)
        return {**values, name: values[name] + batch.pos[0, 0].detach()}

    monkeypatch.setattr(type(model), "readout", broken)
    errors = equivariance_error(model, graph, torch.float64)
    assert errors[name] > 0.01
    assert all(error < 1e-9 for other, error in errors.items() if other != name)


def test_the_graph_is_left_as_it_was(graph):
    before = replace(graph)
    equivariance_error(small_model(TARGETS[:1]), graph, torch.float64)
    assert graph.pos is before.pos
    assert graph.pos.dtype == graph.cell.dtype == torch.float32
