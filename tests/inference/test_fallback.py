import csv

import numpy as np
import pytest

from molformer.data.structure import Label
from molformer.errors import InputError
from molformer.inference import Predictor
from molformer.inference.fallback import FallbackPredictor, default_predictor
from molformer.inference.models import SHIPPED
from molformer.inference.request import PredictionRequest
from molformer.inference.sources import read_inputs
from molformer.inference.writers import open_writer
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, small_config

ORGANIC, WIDER = (1, 6, 7, 8), (1, 6, 7, 8, 9, 16, 17)
INPUTS = ["CCO", "CCCl", "nonsense", "CS", "CC[Si]C", "CC"]


def predictor(name, elements, most=9):
    model = PropertyModel(small_config(), [Label(name, "eV", "intensive")], domain=Domain(elements, most))
    return Predictor(moved(model))


@pytest.fixture(scope="module")
def both():
    return FallbackPredictor(predictor("dft", ORGANIC), predictor("xtb", WIDER, 100), ("first", "second"))


def rows_of(both, inputs, **kwargs):
    request = PredictionRequest.of(both.targets, **kwargs)
    return list(both.stream(read_inputs(inputs), request)), request


@pytest.mark.parametrize("chunk", [2, 256])
def test_each_molecule_is_answered_by_the_model_that_knows_it(both, monkeypatch, chunk):
    monkeypatch.setattr("molformer.inference.fallback.CHUNK", chunk)
    rows, _ = rows_of(both, INPUTS)
    assert [row.name for row in rows] == INPUTS
    assert [(row.model, row.status) for row in rows] == [
        ("first", "ok"),
        ("second", "ok"),
        ("first", "invalid_input"),
        ("second", "ok"),
        ("first", "unsupported_element"),
        ("first", "ok"),
    ]
    for row in rows:
        assert set(row.values) == ({"first": {"dft"}, "second": {"xtb"}}[row.model] if row.status == "ok" else set())
    alone = both.predictors[1].predict("CCCl")[0]
    assert float(rows[1]["xtb"]) == pytest.approx(float(alone["xtb"]), rel=1e-5)


def test_a_large_molecule_is_answered_by_the_model_of_large_ones(both):
    rows, _ = rows_of(both, ["C" * 6])
    assert (rows[0].model, rows[0].status) == ("second", "ok")


def test_targets_of_one_model_are_asked_of_it_alone(both):
    rows, request = rows_of(both, ["CCO", "CCCl"], names=["dft"])
    assert [(row.model, row.status) for row in rows] == [("first", "ok"), ("first", "unsupported_element")]
    assert [target.name for target in request.shown] == ["dft"]


def test_targets_of_the_second_model_are_asked_of_it_for_all(both):
    rows, _ = rows_of(both, ["CCO", "CCCl"], names=["xtb"])
    assert [(row.model, row.status) for row in rows] == [("second", "ok")] * 2
    assert all("xtb" in row.values for row in rows)


def test_strict_raises_only_if_no_model_answers(both):
    request = PredictionRequest.of(both.targets)
    assert len(list(both.stream(read_inputs(["CCCl"]), request, strict=True))) == 1
    with pytest.raises(InputError, match="Si"):
        list(both.stream(read_inputs(["CC[Si]C"]), request, strict=True))


def test_a_file_says_which_model_answered(both, tmp_path):
    rows, request = rows_of(both, INPUTS[:2])
    with open_writer(tmp_path / "out.csv", both.layout(request)) as writer:
        for row in rows:
            writer.write(row)
    found = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["model"] for row in found] == ["first", "second"]
    assert found[0]["xtb (eV)"] == found[1]["dft (eV)"] == ""
    assert np.isfinite(float(found[1]["xtb (eV)"]))


def test_the_default_needs_both_models(monkeypatch, tmp_path):
    monkeypatch.setattr("molformer.inference.models.SHIPPED", tmp_path)
    assert default_predictor("cpu") is None
    assert SHIPPED.is_dir()
