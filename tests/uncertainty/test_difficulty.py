"""Half-widths follow the expected error: coverage holds for easy and hard molecules, and the hardest are flagged."""

from dataclasses import replace

import numpy as np
import pytest

from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.conformal import coverage, coverage_table
from molformer.uncertainty.difficulty import Difficulty, Distance, fit_difficulty, geometry_family, molecule_inputs

FEATURES = 4


def molecules(count, seed):
    """Inputs, methods and labels of molecules whose typical error is exp(first feature), thrice that if relaxed."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 10, count)
    numbers = rng.choice([1, 6, 8], sizes.sum())
    centers = np.repeat(rng.normal(0, 0.5, (count, FEATURES)), sizes, axis=0)
    features = centers + 0.1 * rng.standard_normal((len(numbers), FEATURES))
    methods = np.where(rng.random(count) < 0.5, "given", "etkdg+mmff")
    starts = np.cumsum([0, *sizes[:-1]])
    difficulty = np.exp(np.add.reduceat(features[:, 0], starts) / sizes) * np.where(methods == "given", 0.1, 0.3)
    return features, numbers, sizes, methods, difficulty * rng.standard_normal(count)


@pytest.fixture(scope="module")
def calibration():
    features, numbers, sizes, methods, errors = molecules(3000, 0)
    distance = Distance.fit([(features, numbers)])
    inputs = molecule_inputs(distance, features, numbers, sizes)
    half = {"rare": np.where(np.arange(3000) < 150, errors, np.nan), "gap": errors}
    found = fit_difficulty(
        distance, inputs, list(methods), np.arange(3000), {n: np.abs(e) for n, e in half.items()}, 0.9
    )
    return Calibration({"gap": 0.5, "rare": 0.4}, 0.9, difficulty=found)


@pytest.fixture(scope="module")
def measured(calibration):
    features, numbers, sizes, methods, errors = molecules(6000, 1)
    assessed = calibration.assess(calibration.inputs(features, numbers, sizes), methods)
    return assessed, coverage([assessed], 0.9, {"gap": (errors, np.zeros(6000))}, sizes, methods)["gap"], errors


def test_coverage_holds_in_every_group(measured):
    _, found, _ = measured
    assert list(found.groups) == ["etkdg+mmff", "given", "small", "medium", "large", "narrow", "middle", "wide"]
    assert found.share == pytest.approx(0.9, abs=0.02)
    for group, (_, share) in found.groups.items():
        assert share == pytest.approx(0.9, abs=0.03), group
    width = {group: width for group, (width, _) in found.groups.items()}
    assert width["etkdg+mmff"] > 2.5 * width["given"]
    assert width["wide"] > 4 * width["narrow"]


def test_the_promised_share_is_flagged_and_has_larger_errors(measured):
    assessed, found, errors = measured
    assert found.far == assessed.far.mean() == pytest.approx(0.01, abs=0.006)
    assert found.far_ratio == pytest.approx(np.abs(errors)[assessed.far].mean() / np.abs(errors)[~assessed.far].mean())
    assert found.far_ratio > 2


def test_few_labels_have_a_constant_half_width(calibration, measured):
    assert calibration.difficulty.targets == ("gap",)
    assert set(measured[0].half_widths["rare"]) == {0.4}


def test_beyond_the_sizes_and_distances_of_validation_errors_are_expected_to_grow(calibration):
    features, numbers, sizes, _, _ = molecules(1, 2)
    one = calibration.assess(calibration.inputs(features, numbers, sizes), ["given"])
    many = np.tile(features, (20, 1)), np.tile(numbers, 20), 20 * sizes
    large = calibration.assess(calibration.inputs(*many), ["given"])
    assert large.half_widths["gap"][0] > 2 * one.half_widths["gap"][0]
    apart = calibration.assess(calibration.inputs(features + np.array([0, 0, 0, 50.0]), numbers, sizes), ["given"])
    assert apart.half_widths["gap"][0] > 2 * one.half_widths["gap"][0]
    assert (one.far[0], large.far[0], apart.far[0]) == (False, True, True)
    assert "times that of molecules like those of training" in apart.reasons[0]


def test_half_widths_are_not_extrapolated_in_the_features(calibration):
    features, numbers, sizes, methods, _ = molecules(200, 2)
    inputs = calibration.inputs(features, numbers, sizes)
    within = calibration.assess(inputs, methods).half_widths["gap"]
    inputs[:, 0] += 50.0  # of an expected error e⁵⁰ times as large
    beyond = calibration.assess(inputs, methods).half_widths["gap"]
    assert within.max() <= beyond.max() < 3 * within.max()


def test_a_method_that_was_not_validated_has_the_half_widths_of_its_family(calibration):
    methods = ["etkdg+uff", "etkdg+mmff, not converged", "given", "etkdg"]
    names = [calibration.difficulty.methods[place] for place in calibration.difficulty.places(methods)]
    assert names[:3] == ["etkdg+mmff", "etkdg+mmff", "given"]
    assert geometry_family("etkdg+uff") == "relaxed"


def test_without_labels_the_distance_alone_is_judged():
    features, numbers, sizes, methods, _ = molecules(500, 3)
    distance = Distance.fit([(features, numbers)])
    found = fit_difficulty(
        distance, molecule_inputs(distance, features, numbers, sizes), list(methods), np.arange(500), {}, 0.9
    )
    plain = Calibration({}, 0.9, difficulty=found)
    far = plain.assess(plain.inputs(features + 9.0, numbers, sizes), methods)
    assert far.far.all()
    assert "as far from their element's mean" in far.reasons[0]
    assert plain.assess(plain.inputs(features, numbers, sizes), methods).far.mean() < 0.02


def test_the_distance_is_one_for_atoms_like_those_of_training():
    features, numbers, *_ = molecules(500, 4)
    distance = Distance.fit([(features[:700], numbers[:700]), (features[700:], numbers[700:])])
    assert distance.elements.tolist() == [1, 6, 8]
    assert distance.of_atoms(features, numbers).mean() == pytest.approx(1.0, rel=0.05)
    assert np.allclose(distance.centers[0], features[numbers == 1].mean(0))


def test_it_is_the_same_when_it_was_saved(calibration, tmp_path):
    calibration.save(tmp_path)
    again = Calibration.load(tmp_path)
    features, numbers, sizes, methods, _ = molecules(50, 5)
    one, other = (each.assess(each.inputs(features, numbers, sizes), methods) for each in (calibration, again))
    assert np.allclose(one.half_widths["gap"], other.half_widths["gap"], rtol=1e-4)
    assert np.allclose(one.percentiles, other.percentiles, atol=0.2)
    assert isinstance(again.difficulty, Difficulty)
    damaged = replace(calibration, difficulty=replace(calibration.difficulty, weights=np.zeros((1, 1))))
    damaged.save(tmp_path)
    with pytest.raises(Exception, match="do not fit each other"):
        Calibration.load(tmp_path)


def test_the_table_has_a_column_for_each_group(measured):
    headings, rows = coverage_table({"gap": measured[1]})
    assert headings == ["target", "all", *measured[1].groups, "error outside"]
    assert rows[0][1] == f"{100 * measured[1].share:.1f} ±{measured[1].half_width:.3g}"
