import numpy as np
import pytest
import torch

from molformer.data.structure import Label
from molformer.inference.checks import LIMITS, check_model, sample_structures
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, random_structure, small_config

TARGETS = [
    Label("energy", "eV", "extensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
    Label("forces", "eV/Å", "forces"),
    Label("stress", "eV/Å^3", "stress"),
    Label("active", "", "binary"),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return moved(PropertyModel(small_config(num_layers=2), TARGETS, domain=Domain((1, 6, 7, 8), 20, ("given",))))


def broken(checks):
    return {row.name for row in checks if not row.passed}


def test_a_correct_model_passes_all_checks(model):
    structures = [random_structure(4, seed=seed) for seed in range(2)]
    checks = check_model(model, structures)
    assert broken(checks) == set()
    assert {row.name for row in checks} == set(LIMITS)
    assert {row.target for row in checks if row.name == "smooth at the cutoff"} == {t.name for t in TARGETS}
    assert all(np.isfinite(row.measured) for row in checks)


def test_a_violated_check_fails(model, monkeypatch):
    structures = [random_structure(4, seed=seed) for seed in range(2)]
    readout = PropertyModel.readout

    def check_with(change):
        def changed(self, x, graph):
            values = readout(self, x, graph)
            return {**values, **change(values, graph)}

        monkeypatch.setattr(PropertyModel, "readout", changed)
        found = broken(check_model(model, structures))
        monkeypatch.setattr(PropertyModel, "readout", readout)
        return found

    along_x = check_with(lambda values, graph: {"active": values["active"] + graph.pos[graph.ptr[:-1], 0].detach()})
    assert {"equivariance, float64", "permutation, float64"} <= along_x
    assert "alone or in a batch, float64" in check_with(
        lambda values, graph: {"active": values["active"] + len(graph.pos)}
    )
    assert check_with(lambda values, _: {"forces": 2 * values["forces"]}) == {"forces against finite differences"}
    assert "float32 against float64" in check_with(
        lambda v, g: {"active": v["active"] + (g.pos.dtype == torch.float32)}
    )


def test_a_jump_at_the_cutoff_is_found(model, monkeypatch):
    from molformer.nn.radial import PolynomialEnvelope

    monkeypatch.setattr(PolynomialEnvelope, "forward", lambda self, length: torch.ones_like(length))
    assert "smooth at the cutoff" in broken(check_model(model, [random_structure(4)]))


def test_samples_have_only_known_elements():
    assert len(sample_structures(Domain((1, 6, 7, 8, 9, 16, 17), 30, ()))) == 6
    for elements in ((1, 8), (26, 78), (0,)):
        samples = sample_structures(Domain(elements, 9, ()))
        assert samples
        assert all(set(sample.numbers.tolist()) <= set(elements) for sample in samples)


def test_direct_forces_are_not_compared_with_an_energy():
    targets = [Label("forces", "eV/Å", "forces"), Label("gap", "eV", "intensive")]
    checks = check_model(moved(PropertyModel(small_config(), targets, forces="direct")).eval())
    assert "forces against finite differences" not in {row.name for row in checks}
    assert {row.target for row in checks if row.name == "equivariance, float64"} == {"forces", "gap"}
