"""A kind of one's own, the one of docs/extending/targets.md, from files to a table of predictions."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from molformer.data.importing import import_inputs
from molformer.data.readers import ReadOptions, read_file
from molformer.inference.checks import check_model
from molformer.inference.predictor import Predictor
from molformer.targets import Label, registry
from tests.helpers import small_model
from tests.test_cli import molformer

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "targets.md"
MODULE, EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ENTRY_POINT = "[molformer.targets]\nquadrupole = quadrupole\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The module and its entry point as installed, and the example of the page, run there."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "quadrupole.py").write_text(MODULE, encoding="utf-8")
    about = folder / "quadrupole-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quadrupole\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_KINDS", dict(registry._KINDS))
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        scope = {}
        exec(compile(EXAMPLE, str(PAGE), "exec"), scope)
        yield folder
    sys.modules.pop("quadrupole")


def test_the_example_learns_and_its_model_is_equivariant(folder):
    predictor = Predictor.load(folder / "run")
    value = predictor.predict(str(folder / "molecules.extxyz"))[0]["Q"].value
    assert value.shape == (3, 3)
    assert np.abs(value - value.T).max() < 1e-5
    assert abs(np.trace(value)) < 1e-5
    with open(folder / "run" / "test_predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    parts = [f"Q_{a}{b}" for a in "xyz" for b in "xyz"]
    label = np.array([[float(row[f"{part} [e·Å^2]"]) for part in parts] for row in rows])
    guess = np.array([[float(row[f"{part} predicted [e·Å^2]"]) for part in parts] for row in rows])
    assert np.abs(guess - label).mean() < 0.5 * np.abs(label).mean()
    assert all(check.passed for check in check_model(predictor.model))


def test_the_check_of_equivariance_knows_its_symmetry(folder, monkeypatch):
    """A head that gives out a matrix with a trace does not keep irreps 2e."""
    label = Label("Q", "", "quadrupole")
    model = small_model([label])
    assert all(check.passed for check in check_model(model))
    forward = type(model.head("Q")).forward
    with_trace = lambda self, x, graph: forward(self, x, graph) + torch.eye(3)  # noqa: E731
    monkeypatch.setattr(type(model.head("Q")), "forward", with_trace)
    failed = {check.name for check in check_model(model) if not check.passed}
    assert failed == {"equivariance, float32", "equivariance, float64"}


def test_npz_holds_the_same_labels(folder, tmp_path):
    entries = list(read_file(folder / "molecules.extxyz", ReadOptions((Label("Q", "e·Å^2", "quadrupole"),))))
    structures = [entry.structure for entry in entries]
    flat = np.stack([structure.labels["Q"].ravel() for structure in structures])
    np.savez(
        tmp_path / "set.npz",
        positions=np.concatenate([structure.pos for structure in structures]),
        numbers=np.concatenate([structure.numbers for structure in structures]),
        offsets=np.cumsum([0, *map(len, structures)]),
        Q=flat,
        Q_unit="e·Å^2",
    )
    options = ReadOptions((Label("Q", "D·Å", "quadrupole"),))
    store = import_inputs([tmp_path / "set.npz"], tmp_path / "store", options).store
    assert len(store) == len(structures)
    assert np.allclose(store[3].labels["Q"], 4.803204712570263 * structures[3].labels["Q"])
    assert store.label("Q").kind == "quadrupole"


def test_the_command_line_finds_it_by_its_entry_point(folder):
    result = molformer("predict", "molecules.extxyz", "--model", "run", "-o", "out.csv", cwd=folder)
    assert result.returncode == 0, result.stderr
    with open(folder / "out.csv", newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert [name for name in row if name.startswith("Q")] == [f"Q_{a}{b} (e·Å^2)" for a in "xyz" for b in "xyz"]
    assert None not in row
    assert float(row["Q_xx (e·Å^2)"]) + float(row["Q_yy (e·Å^2)"]) == pytest.approx(
        -float(row["Q_zz (e·Å^2)"]), abs=1e-5
    )
    target = ("--target", "Q=quadrupole,e·Å^2")
    result = molformer("data", "import", "molecules.extxyz", "-o", "again", *target, cwd=folder)
    assert result.returncode == 0, result.stderr
    result = molformer("evaluate", "run", "again", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "e·Å^2" in result.stdout


def test_without_its_module_the_error_says_what_to_do(folder, tmp_path):
    result = molformer("predict", "O", "--model", folder / "run", cwd=tmp_path)
    assert result.returncode == 2
    assert "kind 'quadrupole' is not one of intensive" in result.stderr
    assert "register" in result.stderr
