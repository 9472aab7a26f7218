"""The quickstart as a newcomer runs it: what the README says of it."""

from pathlib import Path

import pytest

from molformer.data.readers import read_input
from molformer.inference import Predictor
from molformer.training.arguments import read_configs
from molformer.training.run import train

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_quickstart_beats_the_composition_and_predicts(tmp_path):
    overrides = ["--run", str(tmp_path / "run"), "--wandb", "off", "--data", str(ROOT / "data" / "gfn2")]
    result = train(*read_configs(str(ROOT / "configs" / "quickstart.yaml"), overrides))
    errors = {row.target.name: row for row in result.errors}
    assert errors["gap"].error_composition > 2 * errors["gap"].error
    assert errors["energy"].error_composition > 3 * errors["energy"].error
    rows = Predictor.load(result.folder).predict(["CCO", "c1ccccc1", ROOT / "data" / "examples" / "paracetamol.xyz"])
    assert [row.status for row in rows] == ["ok"] * 3
    assert [row.structure.formula for row in rows] == ["C2H6O", "C6H6", "C8H9NO2"]


def test_the_example_file_is_readable():
    (entry,) = read_input(ROOT / "data" / "examples" / "paracetamol.xyz")
    assert entry.structure.formula == "C8H9NO2"
