"""`molformer data` as a user meets it."""

import csv
import json

import pytest

from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label
from tests.helpers import random_structure
from tests.test_cli import molformer


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mols.csv"
    path.write_text('name,smiles,gap (eV),toxic\nethanol,CCO,1.5,0\nbad,nonsense,2,1\n"a, b",CC,,1\nwater,O,3,0\n')
    return path


def test_a_table_becomes_a_store_and_a_record(table, tmp_path):
    arguments = ("data", "import", table, "-o", "set", "--target", "gap (eV)", "-t", "toxic", "--processes", "0")
    result = molformer(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Wrote 3 structures to set.safetensors" in result.stdout
    assert "Rejected 1 rows" in result.stdout
    store = StructureStore(tmp_path / "set")
    assert [structure.name for structure in store] == ["ethanol", "a, b", "water"]
    assert store.label("gap").unit == "eV"
    assert store.label("toxic").kind == "binary"
    with open(tmp_path / "set.rejected.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["row"] == "2"
    assert "nonsense" in row["reason"]


def test_info_names_counts_labels_and_missing_values(tmp_path):
    members = [random_structure(3, labels={"gap": gap}) for gap in (1.0, 2.0, float("nan"))]
    path = write_store(tmp_path / "set", members, [Label("gap", "eV", "intensive")]).path
    result = molformer("data", "info", path, "--verify")
    assert result.returncode == 0, result.stderr
    assert "3, with 9 atoms" in result.stdout
    assert "gap" in result.stdout
    assert "The content agrees with its hash." in result.stdout


def test_split_writes_what_a_training_run_reads(tmp_path):
    members = [random_structure(3, seed=row, smiles="C" * (row + 1)) for row in range(20)]
    write_store(tmp_path / "set", members)
    result = molformer("data", "split", "set", "-o", "split.json", "--seed", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    parts = json.loads((tmp_path / "split.json").read_text())
    assert sorted(sum((parts[name] for name in ("train", "val", "test")), [])) == list(range(20))  # noqa: RUF017


def test_known_data_sets_are_listed():
    result = molformer("data", "list")
    assert result.returncode == 0, result.stderr
    for name in ("qm9", "rmd17/ethanol", "moleculenet/esol", "modelnet40", "scanobjectnn"):
        assert name in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "none.sdf", "-o", "set"), "there is no file 'none.sdf'"),
        (("import", "mols.csv", "-o", "set", "-t", "mass"), "mass"),
        (("import", "CCO", "-o", "set", "-t", "gap=colour"), "'colour' is not a kind of label"),
        (("import", "CCO", "-o", "set", "-t", "gap=intensive,furlong"), "unknown unit 'furlong'"),
        (("import", "CCO", "-o", "set", "--from", "x"), "--from is for a data set by its name"),
        (("import", "qm9", "-o", "set", "--from", "none.tar"), "none.tar"),
        (("import", "CCO", "-o", "set", "--conformers", "magic"), "conformer method 'magic' is not one of"),
        (("info", "none"), "there is no store at 'none.safetensors'"),
        (("split", "none", "-o", "x.json"), "there is no store at 'none.safetensors'"),
        (("split", "none", "-o", "x.json", "--by", "magic"), "split method 'magic' is not one of"),
    ],
)
def test_what_does_not_fit_is_one_line_and_status_2(arguments, message, table, tmp_path):
    result = molformer("data", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mols.csv"]


def test_an_output_that_is_a_folder_is_refused_before_the_work(tmp_path):
    write_store(tmp_path / "set", [random_structure(3, seed=row) for row in range(20)])
    for output in (".", "none/split.json"):
        result = molformer("data", "split", "set", "-o", output, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith(f"molformer: cannot write '{output}'")


def test_a_made_set_is_imported_by_its_name(tmp_path):
    result = molformer("data", "import", "nbody-paper", "-o", "set", "--count", "3", "--seed", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Wrote 3 structures to set.safetensors" in result.stdout
    result = molformer("data", "import", "CC", "-o", "set", "--count", "3", cwd=tmp_path)
    assert result.returncode == 2
    assert "--count is for a data set by its name" in result.stderr


def test_bonds_are_perceived_on_request(tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n2\ncharge=7\nC 0 0 0\nO 0 0 1.1\n")
    for bonds, names in (("given", [False, False]), ("perceive", [True])):
        result = molformer("data", "import", "water.xyz", "-o", bonds, "--bonds", bonds, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert [each.molecular_graph is not None for each in StructureStore(tmp_path / bonds)] == names
    assert "its bonds cannot be perceived" in (tmp_path / "perceive.rejected.csv").read_text()
    result = molformer("predict", "water.xyz", "--bonds", "guess", cwd=tmp_path)
    assert result.returncode != 0
    assert "bonds 'guess' is not one of given, perceive" in result.stderr
