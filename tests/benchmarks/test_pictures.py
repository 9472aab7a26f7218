import json
import re

import pytest

from benchmarks.pictures import DOCS, accuracy_picture, attention_picture
from molformer.data.structure import Label
from molformer.inference.predictor import Predictor
from molformer.models import Domain, PropertyModel
from tests.helpers import small_config

ACCURACY = DOCS / "results" / "accuracy.md"


def test_attention_picture_has_a_colour_for_every_atom_and_links():
    targets = [Label("gap", "eV", "intensive")]
    model = PropertyModel(small_config(), targets, domain=Domain((1, 6, 7, 8), 20, ("etkdg+mmff",)))
    figure = attention_picture(Predictor(model), "CCO")
    assert figure.axes[1].get_ylabel() == "attention received"
    assert len(figure.axes[0].lines) > 8  # bonds and links


def test_accuracy_picture_shows_shares_of_the_mean():
    row = {"name": "gap", "mean": 2.0, "best": 1.0, "ours": 0.5, "low": 0.4, "high": 0.6}
    axes = accuracy_picture([row]).axes[0]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.2, 0.25, 0.5, 1.0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["gap"]


def test_stored_results_are_those_of_the_page():
    rows = json.loads((DOCS / "accuracy.json").read_text(encoding="utf-8"))
    printed = {float(number) for number in re.findall(r"\*\*([\d.]+)\*\*", ACCURACY.read_text(encoding="utf-8"))}
    assert rows
    for row in rows:
        assert any(number == pytest.approx(row["ours"], rel=5e-3) for number in printed), row["name"]


@pytest.mark.parametrize(("name", "page"), [("attention.png", DOCS / "index.md"), ("accuracy.png", ACCURACY)])
def test_pictures_are_small_and_shown(name, page):
    assert (DOCS / name).stat().st_size < 200_000
    assert f"{name})" in page.read_text(encoding="utf-8")
