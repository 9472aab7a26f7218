import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from benchmarks.measures import Measure, interval

RNG = np.random.default_rng(0)
SIZES = np.array([3, 5, 2, 4])


def test_errors_are_those_of_the_formulas():
    label, prediction = RNG.normal(size=(2, 4))
    error = 1000 * (prediction - label)
    assert interval(Measure("e", "MAE", "meV", 1000), prediction, label, SIZES)[0] == pytest.approx(abs(error).mean())
    rmse = interval(Measure("e", "RMSE", "meV/atom", 1000, per_atom=True), prediction, label, SIZES)[0]
    assert rmse == pytest.approx(np.sqrt(np.mean((error / SIZES) ** 2)))
    share = interval(Measure("e", "relative RMSE", "%"), prediction, label, SIZES)[0]
    assert share == pytest.approx(0.1 * np.sqrt(np.mean(error**2)) / label.std())


def test_values_per_atom_have_equal_weights_in_structures_of_any_size():
    label, prediction = RNG.normal(size=(2, SIZES.sum(), 3))
    value, low, high = interval(Measure("f", "RMSE"), prediction, label, SIZES)
    assert value == pytest.approx(np.sqrt(np.mean((prediction - label) ** 2)))
    assert low < value < high


def test_missing_labels_are_left_out():
    label, prediction = np.array([1.0, np.nan, 3.0, 4.0]), np.array([2.0, 100.0, 3.0, 4.0])
    assert interval(Measure("e", "MAE"), prediction, label, SIZES)[0] == pytest.approx(1 / 3)


def test_tensors_fall_into_trace_and_rest():
    label = RNG.normal(size=(4, 3, 3))
    shifted = label + 0.3 * np.eye(3)
    assert interval(Measure("a", "RMSE", part="isotropic"), shifted, label, SIZES)[0] == pytest.approx(0.3)
    assert interval(Measure("a", "relative RMSE", part="anisotropic"), shifted, label, SIZES)[0] == pytest.approx(0)


def test_length_of_the_error_of_vectors():
    label, error = RNG.normal(size=(4, 3)), np.array([[3.0, 0, 4], [0, 0, 0], [0, 1, 0], [0, 0, 2]])
    assert interval(Measure("d", "length"), label + error, label, SIZES)[0] == pytest.approx(2.0)


def test_area_under_the_curve_is_that_of_torchmetrics():
    label, probability = RNG.integers(2, size=200), RNG.integers(20, size=200) / 20
    expected = 100 * float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(label)))
    value, low, high = interval(Measure("c", "ROC-AUC", "%"), probability, label.astype(float), np.ones(200))
    assert value == pytest.approx(expected)
    assert low < value < high


def test_the_interval_of_the_mean_has_its_nominal_coverage():
    inside = []
    for seed in range(100):
        error = np.random.default_rng(seed).normal(size=60)
        _, low, high = interval(Measure("e", "MAE"), error, np.zeros(60), np.ones(60))
        inside.append(low < np.sqrt(2 / np.pi) < high)
    assert 88 <= sum(inside) <= 99
