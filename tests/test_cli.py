"""The command line as a user meets it, in a process of its own."""

import csv
import os
import shlex
import subprocess
import sys
import time

import pytest
import torch

from molformer.data.structure import Label
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, small_config


def molformer(*arguments, cwd=None):
    command = [sys.executable, "-m", "molformer", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    targets = [Label("gap", "eV", "intensive"), Label("dipole", "D", "vector"), Label("charges", "e", "charges")]
    folder = tmp_path_factory.mktemp("model")
    moved(PropertyModel(small_config(), targets, domain=Domain((1, 6, 8), 20, ("given",)))).save(folder)
    return folder


@pytest.fixture
def water(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    return path


def test_help_comes_at_once_and_names_the_commands():
    start = time.perf_counter()
    result = molformer("--help")
    assert time.perf_counter() - start < 1.5  # well under a second on an idle machine
    assert result.returncode == 0
    assert "train" in result.stdout
    assert "predict" in result.stdout


def test_heavy_packages_are_not_imported_for_help():
    code = "import sys, molformer.cli; print([m for m in ('torch', 'rdkit', 'lightning', 'wandb') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_table_on_the_screen(model, water):
    result = molformer("predict", "CCO", water, "--model", model)
    assert result.returncode == 0, result.stderr
    assert "|dipole|" in result.stdout
    assert "water.xyz" in result.stdout
    assert "C2H6O" in result.stdout


def test_a_csv_file_with_a_row_for_each_input(model, water, tmp_path):
    out = tmp_path / "out.csv"
    result = molformer("predict", "CCO", "nonsense", water, "--model", model, "-o", out, "--keep-going")
    assert result.returncode == 0, result.stderr
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok", "invalid_input", "ok"]
    assert float(rows[0]["gap (eV)"])
    assert rows[1]["gap (eV)"] == ""
    assert len(rows[2]["charges (e)"].split()) == 3
    norm = sum(float(rows[0][f"dipole_{axis} (D)"]) ** 2 for axis in "xyz") ** 0.5
    assert norm == pytest.approx(float(rows[0]["dipole_norm (D)"]), abs=1e-5)


BAD_INPUTS = {
    "an invalid SMILES": ("C1CC", None, "'C1CC' is not a SMILES"),
    "an unseen element": ("CBr", None, "has not seen Br in training; it knows H, C, O"),
    "a molecule that cannot be embedded": ("C1#CC1", None, "could not be embedded in 3-D"),
    "an empty file": ("bad.xyz", "", "'bad.xyz' is empty"),
    "a truncated file": ("bad.xyz", "3\n\nO 0 0 0\n", "'bad.xyz' is not a complete XYZ file"),
    "a position that is no number": ("bad.xyz", "1\n\nO 0 nan 0\n", "position of atom 1 is not a finite number"),
    "a missing file": ("none.xyz", None, "cannot read 'none.xyz'"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_one_line_status_2_and_a_row_that_says_why(name, model, tmp_path):
    source, content, message = BAD_INPUTS[name]
    if content is not None:
        (tmp_path / source).write_text(content)
    before = set(tmp_path.iterdir())
    result = molformer("predict", "CCO", source, "--model", model, "-o", "out.csv", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("molformer: ")
    assert message in result.stderr
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out.csv"}
    with open(tmp_path / "out.csv", newline="") as file:
        good, bad = csv.DictReader(file)
    assert good["status"] == "ok"
    assert message in bad["message"]
    assert bad["gap (eV)"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "CCO", "--model", "nothing"), "there is no model folder at 'nothing'"),
        (("train", "nothing.yaml"), "there is no config file 'nothing.yaml'"),
        (("train", "bad.yaml"), "bad.yaml: unknown key 'epoch'; did you mean 'epochs'?"),
        (("train", "good.yaml", "--lernrate", "1"), "unknown key 'lernrate'; did you mean 'learning_rate'?"),
        (("train", "good.yaml"), "there is no store at 'nowhere.safetensors'"),
    ],
)
def test_bad_settings_are_one_line_and_status_2(arguments, message, tmp_path):
    (tmp_path / "bad.yaml").write_text("epoch: 3\n")
    (tmp_path / "good.yaml").write_text("data: nowhere\ntargets: [gap]\n")
    result = molformer(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "good.yaml"]


def test_an_output_folder_that_does_not_exist_is_said_before_the_work(model, tmp_path):
    result = molformer("predict", "CCO", "--model", model, "-o", tmp_path / "none" / "out.csv")
    assert result.returncode == 2
    assert "its folder does not exist" in result.stderr


def test_standard_input_to_standard_output(model):
    command = [sys.executable, "-m", "molformer", "predict", "-", "-m", str(model), "-t", "gap", "-u", "meV", "-o", "-"]
    text = "# molecules\nCCO ethanol\nnonsense\n"
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    ethanol, bad = csv.DictReader(result.stdout.splitlines())
    assert (ethanol["input"], ethanol["status"], bad["status"]) == ("ethanol", "ok", "invalid_input")
    assert float(ethanol["gap (meV)"])
    assert "standard input, line 3: 'nonsense' is not a SMILES" in result.stderr


def test_a_killed_prediction_goes_on_with_resume(model, tmp_path):
    smiles = ["CCO", "nonsense", "CC", "CCC", "OCC"] * 40
    (tmp_path / "mols.smi").write_text("\n".join(smiles) + "\n")
    out = tmp_path / "out.csv"
    arguments = ("predict", tmp_path / "mols.smi", "-m", model, "-o", out, "--keep-going", "--batch-size", "8")
    process = subprocess.Popen(
        [sys.executable, "-m", "molformer", *map(str, arguments)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and (not out.exists() or out.read_bytes().count(b"\n") < 20):
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = out.read_bytes()
    assert 20 <= kept.count(b"\n") <= len(smiles)
    result = molformer(*arguments, "--resume")
    assert result.returncode == 0, result.stderr
    assert out.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    with open(out, newline="") as file:
        assert [row["input"] for row in csv.DictReader(file)] == smiles


def test_rows_that_failed_before_count_when_a_run_goes_on(model, tmp_path):
    (tmp_path / "mols.smi").write_text("nonsense\nCCO\nCC\n")
    for suffix in ("csv", "sdf"):
        out = tmp_path / f"out.{suffix}"
        arguments = ("predict", tmp_path / "mols.smi", "-m", model, "-o", out)
        whole = molformer(*arguments)
        assert whole.returncode == 2
        content = out.read_bytes()
        ends = {"csv": b"\n", "sdf": b"$$$$\n"}[suffix]
        for rows in (1, 2, 3):
            out.write_bytes(ends.join(content.split(ends)[: rows + (suffix == "csv")]) + ends)
            again = molformer(*arguments, "--resume")
            assert (again.returncode, again.stderr) == (2, whole.stderr), (suffix, rows)
            assert out.read_bytes().count(ends) == content.count(ends)
    assert molformer(*arguments, "--resume", "--keep-going").returncode == 0


def test_strict_stops_at_the_first_failure(model, tmp_path):
    result = molformer("predict", "CCO", "nonsense", "CC", "-m", model, "-o", tmp_path / "out.csv", "--strict")
    assert result.returncode == 2
    assert result.stderr.startswith("molformer: 'nonsense' is not a SMILES")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


def test_an_input_is_not_overwritten(model, tmp_path):
    (tmp_path / "mols.csv").write_text("smiles\nCCO\n")
    result = molformer("predict", "mols.csv", "-m", model, "-o", "mols.csv", cwd=tmp_path)
    assert result.returncode == 2
    assert "'mols.csv': it is an input" in result.stderr
    assert (tmp_path / "mols.csv").read_text() == "smiles\nCCO\n"


def test_features_in_a_file(model, tmp_path):
    import numpy as np

    result = molformer("embed", "CCO", "nonsense", "-m", model, "-o", tmp_path / "out.npz", "--keep-going")
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out.npz") as file:
        assert file["names"].tolist() == ["CCO", "nonsense"]
        assert np.isfinite(file["features"]).all(1).tolist() == [True, False]
    molformer("embed", "CCO", "nonsense", "C", "-m", model, "-o", tmp_path / "atoms.npz", "--level", "atom")
    with np.load(tmp_path / "atoms.npz") as file:
        assert file["ptr"].tolist() == [0, 9, 9, 14]
        assert len(file["features"]) == 14


def test_check_reports_errors_and_limits(model, tmp_path):
    result = molformer("check", model, "O")
    assert result.returncode == 0, result.stdout
    assert "equivariance, float64" in result.stdout
    assert "FAIL" not in result.stdout
    assert molformer("check", model, "nonsense").returncode == 2


def test_the_screen_says_what_a_shipped_model_knows_and_what_to_do_beyond():
    result = molformer("predict", "CSC", "--model", "qm9")
    assert result.stdout.splitlines()[0] == "Model of H, C, N, O; neutral; up to 29 atoms"
    assert "Without --model, base answers for what qm9 does not know" in " ".join(result.stdout.split())
    result = molformer("predict", "CSC", "--target", "gfn2_gap")
    assert result.stdout.startswith("Model base of H, B, C, N, O, F, Si, P, S, Cl, Se, Br, I; charges")


def test_models_that_are_shipped_are_listed():
    result = molformer("models")
    assert result.returncode == 0, result.stderr


def test_bytes_that_are_no_text(model, tmp_path):
    done = molformer("predict", b"CC\xfc".decode(errors="surrogateescape"), "C", "--model", model)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CC?" in done.stdout
    output = tmp_path / os.fsdecode(b"o\xfc.csv")
    assert "Wrote 1 rows" in molformer("predict", "C", "--model", model, "--output", output).stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [["predict", "C", "-o", "-"], ["predict", "C"], ["--help"]])
def test_a_full_disk_behind_standard_output_is_one_line(model, arguments):
    chosen = ["--model", str(model)] if "predict" in arguments else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "molformer", *arguments, *chosen],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "molformer: cannot write the output: No space left on device\n"


def test_salts_and_delimiters_of_tables(model, tmp_path):
    (tmp_path / "set.csv").write_text("x+smiles\n1+CO.O\n2+C\n")
    table = ["predict", tmp_path / "set.csv", "--model", model, "-o", "-", "--delimiter", "+"]
    refused, largest, kept = (molformer(*table, "--salts", salts) for salts in ("refuse", "largest", "keep"))
    assert (refused.returncode, largest.returncode, kept.returncode) == (2, 0, 0)
    assert "take the largest with --salts largest" in refused.stderr
    assert "CH4O" in largest.stdout
    assert "CH6O2" in kept.stdout
    assert "salts 'some' is not one of" in molformer(*table, "--salts", "some").stderr


def test_standard_input_that_is_closed(model):
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m molformer predict - --model {shlex.quote(str(model))} <&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "molformer: standard input is closed, from which - reads\n")
