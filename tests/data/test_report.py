import csv

import numpy as np

from molformer.data.conformers import ConformerPolicy
from molformer.data.importing import import_inputs, open_data
from molformer.data.labels import parse_targets
from molformer.data.readers import ReadOptions
from molformer.data.report import label_texts, report_dropped, report_duplicates
from molformer.data.store import write_store
from molformer.data.structure import Label
from tests.helpers import random_structure

TABLE = """name,smiles,y,kind
a,CCO,1.0,x
b,OCC,1.5,x
c,[13CH3]CO,,y
d,C[C@H](F)Cl,>7,y
e,C[C@@H](F)Cl,5,y
f,CCCCC,2,x
g,C1CC,2,x
h,CC.Cl,2,x
i,CCN,,
"""


def imported(tmp_path):
    (tmp_path / "mols.csv").write_text(TABLE)
    inputs = [str(tmp_path / "mols.csv")]
    options = ReadOptions(parse_targets(["y", "kind"], inputs))
    return import_inputs(inputs, tmp_path / "set", options).store


def test_rows_of_one_molecule_are_counted_and_listed_with_their_values(tmp_path, caplog):
    store = imported(tmp_path)
    report_duplicates(store, [store.label("y"), store.label("kind")], tmp_path)
    (message,) = caplog.messages
    assert message.startswith("5 rows are of 2 molecules that occur more than once")
    assert "values of y differ in 1, by up to 0.5; values of kind differ in 1; see" in message
    with open(tmp_path / "duplicates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_molecule = {}
    for row in rows:
        by_molecule.setdefault(row["molecule"], []).append((row["name"], row["y"], row["kind"]))
    assert sorted(by_molecule.values()) == [
        [("a", "1", "x"), ("b", "1.5", "x"), ("c", "", "y")],
        [("d", ">7", "y"), ("e", "5", "y")],
    ]


def test_several_geometries_of_a_molecule_are_no_duplicates(tmp_path, caplog):
    write = write_store(tmp_path / "set", [random_structure(3, smiles="CCO", group=1) for _ in range(3)])
    report_duplicates(write, [], tmp_path)
    assert caplog.messages == []
    assert not (tmp_path / "duplicates.csv").exists()


def test_dropped_rows_and_those_without_a_value_are_counted(tmp_path, caplog):
    store = imported(tmp_path)
    (tmp_path / "run").mkdir()
    report_dropped(store, [store.label("y")], tmp_path / "run")
    dropped, empty = caplog.messages
    assert dropped == f"2 of 9 rows were dropped; each is listed with the reason in {tmp_path / 'run' / 'dropped.csv'}"
    assert empty == "2 rows have no value of y"
    with open(tmp_path / "run" / "dropped.csv", newline="") as file:
        rows = [(row["row"], row["smiles"], row["reason"]) for row in csv.DictReader(file)]
    assert [row[:2] for row in rows] == [("7", "C1CC"), ("8", "CC.Cl")]
    assert "take the largest with --salts largest" in rows[1][2]


def test_salts_and_censored_values_are_part_of_what_a_cached_store_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mols.csv").write_text(TABLE)
    settings = [("bounds", salts) for salts in ("refuse", "largest", "keep")]
    sizes = [
        len(open_data(str(tmp_path / "mols.csv"), ["y"], ReadOptions(censored=censored), ConformerPolicy(salts=salts)))
        for censored, salts in (*settings, ("refuse", "refuse"), settings[0])
    ]
    assert sizes == [7, 8, 8, 6, 7]


def test_values_are_written_as_in_a_table():
    values = np.array([1.0, 0.0, np.nan])
    assert label_texts(Label("y", "", "category", ("no", "yes")), values, {}) == ["yes", "no", ""]
    assert label_texts(Label("y", "", "intensive"), values, {"y<": np.array([np.nan, np.nan, 2.5])}) == [
        "1",
        "0",
        "<2.5",
    ]
