import numpy as np
import pytest

from molformer.data.structure import Label
from molformer.training.target_errors import Predicted, evaluate

NAN = np.nan


def errors_of(label, prediction, truth, sizes=None):
    prediction, truth = np.asarray(prediction, float), np.asarray(truth, float)
    sizes = np.asarray(sizes if sizes is not None else np.full(len(truth), 2))
    return evaluate(Predicted({label.name: (prediction, truth)}, sizes), [label])[0]


def test_numbers():
    row = errors_of(Label("gap", "eV", "intensive"), [1.0, 2.0, 4.0, 9.0], [1.0, 3.0, 2.0, NAN])
    assert row.count == 3
    assert row.error == pytest.approx(1.0)
    assert row.rmse == pytest.approx((5 / 3) ** 0.5)
    assert row.r2 == pytest.approx(1 - 5 / 2)
    assert 0 <= row.interval[0] <= 1 <= row.interval[1] <= 2
    assert np.isnan(row.per_atom)


def test_energies_are_given_per_atom_too():
    row = errors_of(Label("energy", "eV", "extensive"), [1.0, 2.0], [2.0, 4.0], sizes=[2, 8])
    assert row.per_atom == pytest.approx((1 / 2 + 2 / 8) / 2)
    assert np.isnan(errors_of(Label("alpha", "a0^3", "extensive"), [1.0, 2.0], [2.0, 4.0]).per_atom)


def test_forces_are_compared_by_component_and_resampled_by_molecule():
    label = Label("forces", "eV/Å", "forces")
    truth = np.zeros((5, 3))
    row = errors_of(label, truth + np.array([1.0, 2.0, 3.0]), truth, [2, 3])
    assert row.count == 5
    assert row.error == pytest.approx(2.0)
    assert row.rmse == pytest.approx((14 / 3) ** 0.5)
    assert row.interval == pytest.approx((2.0, 2.0))  # both molecules err alike


def test_a_missing_component_leaves_the_row_out():
    label = Label("dipole", "D", "vector")
    row = errors_of(label, np.ones((3, 3)), [[0, 0, 0], [0, NAN, 0], [0, 0, 3]])
    assert (row.count, row.error) == (2, pytest.approx(7 / 6))


def test_binary_classes():
    row = errors_of(Label("active", "", "binary"), [0.9, 0.2, 0.6, 0.1, 0.4], [1, 0, 0, 0, NAN])
    assert row.error == pytest.approx(0.25)
    assert row.roc_auc == pytest.approx(1.0)
    assert np.isnan(row.rmse)
    assert np.isnan(errors_of(Label("active", "", "binary"), [0.9, 0.2], [1, 1]).roc_auc)


def test_categories():
    label = Label("colour", "", "category", ("red", "green", "blue"))
    row = errors_of(label, [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]], [0, 1, 2])
    assert row.error == pytest.approx(1 / 3)


def test_a_target_without_labels_has_no_error():
    for label in (Label("gap", "eV", "intensive"), Label("active", "", "binary")):
        row = errors_of(label, [1.0, 2.0], [NAN, NAN])
        assert row.count == 0
        assert np.isnan(row.error)
