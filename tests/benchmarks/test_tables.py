"""The contest on tables: splits, methods, results that are kept, and the figures of the report."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
from rdkit import Chem

from benchmarks import machine, tables, tables_data, tables_methods
from benchmarks.tables_data import joined, label_values, read_table, score, split_rows
from benchmarks.tables_report import compare, report
from molformer.training.arguments import read_configs

SETS = ["CHEMBL1_Ki", "FreeSolv", "BACE"]


@pytest.fixture
def data(tmp_path):
    """A folder with one small set of each kind: own split, numbers and classes."""
    folder = tmp_path / "data"
    (folder / "moleculeace").mkdir(parents=True)
    tails = ["C" * length + f"({end})" for length in range(1, 6) for end in ("O", "N", "F", "Cl")]
    rings = ["c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCOC1", "c1ccsc1", "c1cc[nH]c1", "C1CCNC1", "C1CC1", "C1CCC1"]
    smiles = [tail + ring for ring in rings for tail in tails]
    rng = np.random.default_rng(0)
    smiles = rng.permutation(smiles)[:80].tolist()
    value = [Chem.MolFromSmiles(text).GetNumHeavyAtoms() + rng.normal() / 10 for text in smiles]
    parts = np.where(np.arange(80) % 5 == 0, "test", "train")
    pandas.DataFrame({"smiles": smiles, "pX": value, "cliff": 0, "split": parts}).to_csv(
        folder / "moleculeace" / "CHEMBL1_Ki.csv", index=False
    )
    pandas.DataFrame({"dataset": ["CHEMBL1_Ki"], "OTHER": [0.5]}).to_csv(
        folder / "moleculeace" / "published_rmse.csv", index=False
    )
    pandas.DataFrame({"smiles": [*smiles, "no molecule"], "freesolv": [*value, 99.0]}).to_csv(
        folder / "freesolv.csv", index=False
    )
    active = ["Cl" in text or "F" in text for text in smiles]
    pandas.DataFrame({"mol": smiles, "Class": np.array(active, int)}).to_csv(folder / "bace.csv", index=False)
    return folder


@pytest.fixture
def contest(data, tmp_path, monkeypatch, capsys):
    """Runs the script in this process; what it prints."""
    results = tmp_path / "results.jsonl"

    def here(command, environment):
        name, method, seed, part = command[command.index("--here") + 1 :]
        return tables.measure(tables.Task(name, method, int(seed), part), data, results.with_suffix(""), "")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tables", "--data", str(data), "--results", str(results), *words])
        tables.main()
        return capsys.readouterr().out

    monkeypatch.setattr(machine, "run", here)
    monkeypatch.setattr(tables_methods, "TREES", 10)
    call.results = results
    return call


def loaded(data, tmp_path, name):
    table = tables_data.tables(data)[name]
    return table, *read_table(table, data, tmp_path / "store")


def test_results_are_kept_and_the_next_run_goes_on(contest):
    assert contest("--only", "forest", "svm", "--seeds", "1", "--minutes", "0").endswith("the same command goes on\n")
    first = contest("--only", "svm", "--seeds", "1", "--sets", "BACE")
    assert first.startswith("BACE svm 0 test: ROC-AUC, % ")
    with open(contest.results, "a") as file:
        file.write('{"set": "FreeSolv", "met')  # a crash while a line was written
    kept = contest.results.read_text()
    second = contest("--only", "forest", "svm", "--seeds", "1")
    assert [line.rpartition(" test")[0] for line in second.splitlines()] == [
        "CHEMBL1_Ki forest 0",
        "FreeSolv forest 0",
        "BACE forest 0",
        "CHEMBL1_Ki svm 0",
        "FreeSolv svm 0",
    ]
    assert contest.results.read_text().startswith(kept)
    assert contest("--only", "forest", "svm", "--seeds", "1") == ""
    rows = tables.read_results(contest.results)
    assert len(rows) == 6
    for row in rows:
        assert row["cpu_seconds"] >= 0
        assert row["missing"] == 0
        assert {"molformer", "torch", "rdkit", "scikit-learn"} <= set(row["versions"])
    assert next(row for row in rows if row["set"] == "CHEMBL1_Ki")["parts"] == [64, 0, 16]
    assert not list(contest.results.with_suffix("").glob("runs/*"))


def test_a_line_that_a_crash_cut_off_spoils_no_other(contest):
    contest.results.write_text('{"set": "FreeSolv", "met')
    contest("--only", "svm", "--seeds", "1", "--sets", "BACE")
    assert [row["set"] for row in tables.read_results(contest.results)] == ["BACE"]


def test_what_cannot_be_measured_is_said(contest):
    assert contest("--only", "chemprop").splitlines() == [
        "chemprop: skipped, name the Python interpreter of an environment with chemprop 2 by --chemprop",
    ]
    with pytest.raises(SystemExit):
        contest("--sets", "CHEMBL2_Ki")


def test_a_failure_stops_no_other(contest, monkeypatch):
    def fails(command, environment):
        raise machine.ProgramFailed("no memory")

    monkeypatch.setattr(machine, "run", fails)
    printed = contest("--only", "forest", "svm", "--sets", "BACE", "--seeds", "1")
    assert printed.splitlines() == ["BACE forest 0 test: failed, no memory", "BACE svm 0 test: failed, no memory"]
    assert tables.read_results(contest.results) == []


@pytest.mark.parametrize("name", SETS)
def test_no_row_of_the_test_part_is_in_a_validation_run(data, tmp_path, name):
    table, store, test = loaded(data, tmp_path, name)
    split = split_rows(table, store, test, seed=0)
    assert len(store) == 80
    if table.own_split:
        assert split.test.tolist() == list(range(0, 80, 5))
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(80))
    assert min(len(split.train), len(split.val), len(split.test)) >= 5
    inside = split_rows(table, store, test, seed=0, validation=True)
    rows = np.concatenate([inside.train, inside.val, inside.test])
    assert sorted(rows) == sorted({*split.train, *split.val})
    assert min(len(inside.val), len(inside.test)) >= 5


def test_a_validation_part_depends_on_the_seed_and_is_no_loss_to_methods_without_early_stopping(data, tmp_path):
    table, store, test = loaded(data, tmp_path, "CHEMBL1_Ki")
    first, second = (split_rows(table, store, test, seed) for seed in (0, 1))
    assert first.val.tolist() != second.val.tolist()
    whole = joined(table, first, validation=False)
    assert whole.train.tolist() == np.flatnonzero(~test).tolist()
    assert len(whole.val) == 0
    table, store, test = loaded(data, tmp_path, "FreeSolv")
    split = split_rows(table, store, test, seed=0)
    assert joined(table, split, validation=False) is split


def test_methods_learn(contest):
    contest("--only", "forest", "svm", "--seeds", "1", "--sets", "CHEMBL1_Ki", "BACE")
    contest("--only", "boosting", "kernel", "--seeds", "1", "--sets", "CHEMBL1_Ki")
    rows = tables.read_results(contest.results)
    assert len(rows) == 6
    for row in rows:
        assert row["value"] > 70 if row["set"] == "BACE" else row["value"] < 1.8, row  # heavy atoms spread by 2.1


def test_the_network_predicts_the_rows_of_the_split(contest, monkeypatch):
    quick = ("--epochs", "2", "--initial=", "--channels", "16", "--num_layers", "1", "--descriptors", "none")
    method = tables_methods.Method("quick", lambda problem: tables_methods.molformer(problem, quick), stops=True)
    monkeypatch.setitem(tables_methods.METHODS, "default", method)
    monkeypatch.setenv("MOLFORMER_CACHE", "")  # the script sets it
    contest("--only", "default", "--seeds", "1", "--sets", "CHEMBL1_Ki")
    first = contest.results.with_suffix("") / "geometries" / "CHEMBL1_Ki-1" / "seconds.json"
    assert json.loads(first.read_text()) > 0
    first.write_text("1000.0")
    contest("--only", "default", "--seeds", "2", "--sets", "CHEMBL1_Ki")
    rows = tables.read_results(contest.results)
    assert [row["parts"][2] for row in rows] == [16, 16]
    assert all(np.isfinite(row["value"]) for row in rows)
    assert rows[0]["cpu_seconds"] < 900 < rows[1]["cpu_seconds"]  # with the geometries of the first run


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("scratch", {"initial": "", "descriptors": "none", "ensemble": 1}),
        ("default", {"ensemble": 1}),
        ("new-weights", {"initial": "", "ensemble": 1}),
        ("ensemble", {"ensemble": 3}),
    ],
)
def test_settings_of_this_package(data, tmp_path, monkeypatch, method, keys):
    class Reached(Exception):
        pass

    def stop(path, words):
        training = read_configs(path, words)[1]
        assert {key: getattr(training, key) for key in keys} == keys
        assert (training.seed, training.split_by, training.targets) == (5, "file", ["Class=binary"])
        raise Reached

    table, store, test = loaded(data, tmp_path, "BACE")
    problem = tables_methods.Problem("BACE", table, store, split_rows(table, store, test, 5), 5, tmp_path, tmp_path)
    monkeypatch.setattr("molformer.training.arguments.read_configs", stop)
    with pytest.raises(Reached):
        tables_methods.METHODS[method].predict(problem)


@pytest.mark.parametrize(("method", "extra"), [("chemprop", []), ("chemprop-descriptors", ["rdkit_2d"])])
def test_chemprop_gets_the_split(data, tmp_path, monkeypatch, method, extra):
    def run(command, **options):
        if command[1] == "-c":
            return subprocess.CompletedProcess(command, 0, "2.9 3.0\n", "")
        assert command[:2] == [str(tmp_path / "bin" / "chemprop"), "train"]
        assert command[command.index("--data-seed") + 2 :] == ["--molecule-featurizers", *extra] * bool(extra)
        frame = pandas.read_csv(command[command.index("-i") + 1])
        (tmp_path / "run" / "model_0").mkdir(parents=True)
        kept = frame[frame["split"] == "test"][["smiles", "pX"]]
        kept.to_csv(tmp_path / "run" / "model_0" / "test_predictions.csv", index=False)
        assert frame["split"].value_counts().to_dict() == {"train": len(split.train), "val": len(split.val), "test": 16}
        return subprocess.CompletedProcess(command, 0, "", "")

    table, store, test = loaded(data, tmp_path, "CHEMBL1_Ki")
    split = split_rows(table, store, test, 0)
    python = str(tmp_path / "bin" / "python")
    problem = tables_methods.Problem("CHEMBL1_Ki", table, store, split, 0, tmp_path, tmp_path, python)
    monkeypatch.setattr(subprocess, "run", run)
    answer = tables_methods.METHODS[method].predict(problem)
    assert score(table, label_values(table, store, split.test), answer.predictions) == pytest.approx(0, abs=1e-9)
    assert answer.versions == {"chemprop": "2.9", "its torch": "3.0"}


def test_molecules_without_geometry_get_the_mean(data, tmp_path):
    table, store, test = loaded(data, tmp_path, "CHEMBL1_Ki")
    split = split_rows(table, store, test, seed=0)
    problem = tables_methods.Problem("CHEMBL1_Ki", table, store, split, 0, tmp_path, tmp_path)
    rows = np.delete(np.arange(80), [0, 7])  # 0 is of the test part
    known = np.flatnonzero(np.isin(rows, split.test))
    file = tmp_path / "predictions.csv"
    pandas.DataFrame({"index": known, "pX predicted": rows[known] + 0.5}).to_csv(file, index=False)
    answer = tables_methods._of_run(problem, file, rows, earlier=3.0)
    assert (answer.missing, answer.earlier) == (1, 3.0)
    assert answer.predictions[1:, 0].tolist() == [row + 0.5 for row in range(5, 80, 5)]
    assert answer.predictions[0, 0] == pytest.approx(label_values(table, store, split.train).mean())


def test_score():
    numbers, classes = tables_data.MOLECULENET["ESOL"], tables_data.MOLECULENET["Tox21"]
    assert score(numbers, np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]])) == pytest.approx(2**0.5)
    labels = np.array([[0, 1, 1], [1, 0, 1], [np.nan, 0, 1], [1, 1, 1]])  # the last task has one class
    guesses = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.5], [0.0, 0.95, 0.5], [0.05, 0.99, 0.5]])
    assert score(classes, labels, guesses) == pytest.approx(100 * (0.5 + 0.75) / 2)


def result(name, method, value, seed=0, seconds=60.0, part="test", measure="RMSE", missing=0):
    row = {"set": name, "method": method, "seed": seed, "part": part, "measure": measure, "value": value}
    versions = {"molformer": "1", "torch": "2"}
    return row | {"cpu_seconds": seconds, "molecules": 500, "missing": missing, "machine": "a", "versions": versions}


def test_the_figures_of_the_report():
    rows = [
        result("CHEMBL1", "ours", 9.0),  # measured again below
        *(result("CHEMBL1", "ours", value, seed) for seed, value in enumerate([0.5, 0.7])),
        result("CHEMBL2", "ours", 0.8),
        result("BACE", "ours", 80.0, measure="ROC-AUC, %", missing=2),
        result("CHEMBL1", "theirs", 0.7, seconds=6.0),
        result("CHEMBL2", "theirs", 0.6, seconds=6.0),
        result("BACE", "theirs", 70.0, seconds=6.0, measure="ROC-AUC, %"),
        result("BACE", "theirs", 1.0, part="validation", measure="ROC-AUC, %"),
    ]
    text = report(rows, {"ours": "Ours", "theirs": "Theirs"}, {"CHEMBL1": {"SVM": 0.65}, "CHEMBL9": {"SVM": 1.0}})
    lines = text.splitlines()
    assert "| set | Ours | Theirs | SVM (published) |" in lines
    assert "| CHEMBL1 | 0.600 ± 0.141 | 0.700 | 0.650 |" in lines
    assert "| BACE | 80.0 | 70.0 |  |" in lines
    assert "| mean of 2 MoleculeACE sets | 0.700 | 0.650 | 0.650 (1 sets) |" in lines
    assert "| Ours | 1.33 | 3 | 2.00 |" in lines  # 4 minutes for 2,000 molecules
    assert "| Theirs | 1.67 | 3 | 0.20 |" in lines
    ratio = compare({"a": 0.6, "b": 0.8, "c": 20.0}, {"a": 0.7, "b": 0.6, "c": 30.0})
    assert ratio == "2 of 3, p 0.75"  # log ratios -0.15, 0.29, -0.41: the smaller sum of ranks is 2, of 2^3 signs 6 so
    assert f"| Ours |  | {ratio} | 1 of 1, p 1 |" in lines
    assert any(line.startswith("2 predictions are means") for line in lines)
    assert report(rows, {"theirs": "Theirs"}, {"CHEMBL1": {"SVM": 0.65}}, "validation").splitlines()[2:5] == [
        "| set | Theirs |",
        "| --- | --- |",
        "| BACE | 1.0 |",
    ]
    assert report([], {}, {}) == "no results for the test part yet"
