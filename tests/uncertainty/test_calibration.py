import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import molformer
from molformer.cli.rows import interval_line
from molformer.data.conformers import embed_smiles
from molformer.data.structure import Label
from molformer.errors import ModelError
from molformer.graph import GraphBatch
from molformer.inference import Predictor
from molformer.models import Domain, PropertyModel
from molformer.models.forward import run
from molformer.uncertainty.calibration import FILE, Calibration
from molformer.uncertainty.conformal import coverage
from molformer.uncertainty.difficulty import half_width
from molformer.uncertainty.fit import calibrate
from tests.helpers import moved, random_structure, small_config

TARGETS = [
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
    Label("active", "", "binary"),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return moved(PropertyModel(small_config(), TARGETS, domain=Domain((1, 6, 7, 8), 9, ("given",)))).eval()


def labelled(model, seeds, **kwargs):
    """Structures whose gap is the prediction and a normal error of 0.5 eV."""
    structures = [random_structure(4 + seed % 5, seed=seed, **kwargs) for seed in seeds]
    outputs = run(model, structures, TARGETS)
    errors = np.random.default_rng(seeds[0]).normal(0, 0.5, len(structures))
    return [
        replace(one, labels={"gap": output.values["gap"] + error, "charges": output.values["charges"] + 0.1})
        for one, output, error in zip(structures, outputs, errors, strict=True)
    ]


def batches(structures, size=50):
    for start in range(0, len(structures), size):
        yield GraphBatch.from_structures(structures[start : start + size])


@pytest.fixture(scope="module")
def calibration(model):
    train, val = labelled(model, range(1000, 1150)), labelled(model, range(300))
    origin = {"charges": (0,), "spins": (1, 2), "geometries": model.domain.geometries}
    return calibrate(model, batches(train), batches(val), **origin)


def half_width_of(model, calibration, structure, target="gap"):
    (output,) = run(model, [structure], [])
    inputs = calibration.inputs(output.features, structure.numbers, [len(structure)])
    return float(calibration.assess(inputs, [structure.geometry]).half_widths[target][0])


def test_the_half_width_is_the_quantile_of_split_conformal_prediction():
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert half_width(errors, 0.9) == 91.0  # ⌈101 · 0.9⌉
    assert half_width(errors[:8], 0.9) == np.inf


def test_intervals_have_their_nominal_coverage(model, calibration):
    assert calibration.half_widths["gap"] == pytest.approx(0.5 * 1.645, rel=0.15)
    assert calibration.half_widths["charges"] == pytest.approx(0.1, rel=1e-3)
    assert set(calibration.half_widths) == {"gap", "charges"}  # no labels of dipoles; none for classes
    test = labelled(model, range(5000, 5400))
    predicted = np.array([output.values["gap"] for output in run(model, test, TARGETS)])
    truth = np.array([float(one.labels["gap"]) for one in test])
    truth[0] = np.nan
    sizes, methods = np.array([len(one) for one in test]), np.array(["given"] * len(test))
    atoms = [(output.features, one.numbers) for output, one in zip(run(model, test, TARGETS), test, strict=True)]
    inputs = calibration.inputs(*(np.concatenate(each) for each in zip(*atoms, strict=True)), sizes)
    assessed = calibration.assess(inputs, methods)
    measured = coverage([assessed], calibration.level, {"gap": (predicted, truth)}, sizes, methods)
    assert set(measured) == {"gap"}
    assert measured["gap"].count == 399
    assert measured["gap"].share == pytest.approx(0.9, abs=0.05)
    inside = np.abs(predicted - truth)[1:] <= assessed.half_widths["gap"][1:]
    assert measured["gap"].share == inside.mean()


def test_a_prediction_has_its_interval_in_the_unit_that_is_shown(model, calibration):
    predictor = Predictor(model, calibrations=[calibration])
    structure = random_structure(5, seed=7)
    row = predictor.predict(structure, unit="meV")[0]
    assert row.status == "ok", row.message
    low, high = row["gap"].interval
    assert high - low == pytest.approx(2e3 * half_width_of(model, calibration, structure), rel=1e-4)
    assert (low + high) / 2 == pytest.approx(float(row["gap"]))
    assert row["dipole"].interval is None
    assert row["active"].interval is None
    assert 0 <= row.percentile <= 100


def test_a_geometry_of_another_origin_has_no_interval(model, calibration):
    predictor = Predictor(model, calibrations=[calibration])
    made = replace(random_structure(5, seed=7), geometry="etkdg+mmff")
    assert predictor.predict(made)["gap"].interval is None
    relaxed = Predictor(model, calibrations=[replace(calibration, geometries=("etkdg+mmff", "etkdg+uff"))])
    assert relaxed.predict(made)["gap"].interval is not None


def test_molecules_like_those_of_training_are_in_the_domain_and_others_are_not(model, calibration):
    predictor = Predictor(model, calibrations=[calibration])
    alike = predictor.predict([random_structure(4 + seed % 5, seed=seed) for seed in range(7000, 7100)])
    assert sum(row.status == "ok" for row in alike) >= 94
    assert 30 < np.mean([row.percentile for row in alike]) < 70
    apart = predictor.predict([random_structure(13, seed=seed) for seed in range(20)])  # 8 atoms or fewer in training
    assert all(row.status == "out_of_domain" for row in apart)
    assert all(row.values and row["gap"].interval is None for row in apart)
    reason = r": its expected error is \d+\.\d times that of molecules like those of training$"
    assert re.search(reason, apart[0].message)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"charge": 1}, "its charge is +1, those of the training set are 0"),
        ({"spin": 3}, "its multiplicity is 3, those of the training set are 1"),
    ],
)
def test_charges_and_radicals_that_were_not_seen_are_out_of_domain(model, calibration, change, reason):
    water = replace(embed_smiles("O"), geometry="given")
    known = replace(calibration.difficulty, scores=(np.zeros(0),))
    predictor = Predictor(model, calibrations=[replace(calibration, charges=(0,), spins=(1,), difficulty=known)])
    assert predictor.predict(water)[0].status == "ok"
    row = predictor.predict(replace(water, **change))[0]
    assert row.status == "out_of_domain"
    assert reason in row.message
    assert row.values


def test_an_odd_number_of_electrons_is_a_radical_whatever_the_input_says(model, calibration):
    predictor = Predictor(model, calibrations=[replace(calibration, spins=(1,))])
    row = predictor.predict(molformer.Structure([6, 1, 1, 1], np.eye(4)[:, :3]))[0]
    assert "its multiplicity is 2" in row.message


def test_far_more_atoms_than_were_seen_are_out_of_domain(model):
    row = Predictor(model).predict(random_structure(14))[0]
    assert row.status == "out_of_domain"
    assert "it has 14 atoms, the largest of the training set has 9" in row.message
    assert Predictor(model).predict(random_structure(13))[0].status == "ok"


def test_charges_and_spins_are_those_of_training(model):
    ions = labelled(model, range(30), charge=-1)
    told = calibrate(model, batches(ions), batches(ions), charges=(-1, 0), spins=(1,), geometries=("etkdg",))
    assert (told.charges, told.spins, told.geometries) == ((-1, 0), (1,), ("etkdg",))


def test_few_validation_molecules_say_nothing_of_distances(model):
    few = labelled(model, range(8))
    calibration = calibrate(model, batches(few), batches(few))
    assert calibration.half_widths == {"charges": pytest.approx(0.1, rel=1e-3)}
    far = random_structure(5, spread=40.0, seed=1)
    row = Predictor(model, calibrations=[calibration]).predict(far)[0]
    assert (row.status, row.percentile) == ("ok", None)


def test_it_is_saved_with_the_model_and_read_again(model, calibration, tmp_path):
    model.save(tmp_path)
    structure = random_structure(5, seed=7)
    assert molformer.load(tmp_path).predict(structure)[0].percentile is None
    calibration.save(tmp_path)
    before = Predictor(model, calibrations=[calibration]).predict(structure)[0]
    after = molformer.load(tmp_path).predict(structure)[0]
    assert after.percentile == before.percentile
    assert after["gap"].interval[0] == pytest.approx(before["gap"].interval[0], abs=1e-5)
    assert (tmp_path / FILE).stat().st_size < 100_000
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=f"{FILE}' is damaged"):
        Calibration.load(tmp_path)


def test_an_ensemble_has_the_widest_interval_of_its_members(model, calibration):
    wide = replace(calibration, difficulty=replace(calibration.difficulty, ratios=20 * calibration.difficulty.ratios))
    structure = random_structure(5, seed=7)
    value = Predictor([model, model], calibrations=[calibration, wide]).predict(structure)["gap"]
    width = half_width_of(model, calibration, structure)
    assert value.interval[1] - value.interval[0] == pytest.approx(40 * width, rel=1e-4)


def test_the_screen_has_one_line_for_all_intervals(model, calibration):
    known = random_structure(5, seed=7)
    foreign = replace(known, geometry="etkdg+mmff")
    rows = Predictor(model, calibrations=[calibration]).predict([known, foreign], ["gap", "charges"], unit="meV")
    assert [row.status for row in rows] == ["ok", "ok"]
    width = 1000 * half_width_of(model, calibration, known)
    line = f"90 % intervals: gap ±{width:.2g} meV"
    assert interval_line(rows[:1], rows.targets) == line
    assert interval_line(rows, rows.targets) == f"{line}; none for geometries of another origin than in training"
    assert interval_line(rows[1:], rows.targets) == ""
