import csv
import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from molformer.data.importing import import_entries, import_inputs
from molformer.data.readers import Entry, ReadOptions
from molformer.data.store import StructureStore
from molformer.data.structure import Label
from molformer.errors import InputError, StoreError
from tests.helpers import random_structure

GAP = Label("gap", "eV", "intensive")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_in_the_store_or_in_the_record(tmp_path):
    table = tmp_path / "mols.csv"
    table.write_text("smiles,gap\nCCO,1.5\nnonsense,2\nCC,\nC1#CC1,3\nCCC,abc\nCO,4\n")
    result = import_inputs([table], tmp_path / "set", ReadOptions((GAP,)))
    assert [structure.smiles for structure in result.store] == ["CCO", "CC", "CO"]
    assert np.isnan(result.store.column("gap")[1])
    record = rows_of(result.record)
    assert [int(row["row"]) for row in record] == [2, 4, 5]
    assert [row["status"] for row in record] == ["invalid_input", "embedding_failed", "invalid_input"]
    assert all(row["reason"] and "mols.csv" in row["where"] for row in record)
    assert result.rejected == 3


def test_inputs_of_several_kinds_end_in_one_store(tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    (tmp_path / "mols.smi").write_text("CCO ethanol\n")
    result = import_inputs(["CC", tmp_path / "water.xyz", tmp_path / "mols.smi"], tmp_path / "set")
    assert [structure.formula for structure in result.store] == ["C2H6", "H2O", "C2H6O"]
    assert result.store.manifest["source"] == "CC, water.xyz, mols.smi"
    assert result.record is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mols.smi", "set.safetensors", "water.xyz"]


def test_nothing_good_leaves_the_old_store_and_says_why(tmp_path):
    old = import_inputs(["CC"], tmp_path / "set").store.path.read_bytes()
    (tmp_path / "bad.smi").write_text("nonsense\nC1CC\n")
    with pytest.raises(InputError, match=r"no row of the inputs can be used; the first reason: .*nonsense"):
        import_inputs([tmp_path / "bad.smi"], tmp_path / "set")
    assert (tmp_path / "set.safetensors").read_bytes() == old
    assert len(rows_of(tmp_path / "set.rejected.csv")) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_missing_file_is_an_error_at_once(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        import_inputs(["CC", tmp_path / "none.sdf"], tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_later_good_import_takes_the_old_record_away(tmp_path):
    import_inputs(["CC", "nonsense"], tmp_path / "set")
    assert (tmp_path / "set.rejected.csv").exists()
    import_inputs(["CC"], tmp_path / "set")
    assert not (tmp_path / "set.rejected.csv").exists()


def test_a_structure_that_does_not_fit_the_store_is_a_rejected_row(tmp_path):
    entries = [
        Entry("a", structure=random_structure(3, labels={"gap": 1.0})),
        Entry("b", structure=random_structure(3, labels={"gap": np.zeros(2)})),
    ]
    result = import_entries(entries, tmp_path / "set", [GAP])
    assert len(result.store) == 1
    assert "has shape (2,)" in rows_of(result.record)[0]["reason"]


def test_groups_of_different_inputs_are_kept_apart(tmp_path, monkeypatch):
    from molformer.data import importing

    def grouped(name, options):
        for group in (0, 0, 1):
            yield Entry(str(name), structure=random_structure(2, group=group))

    monkeypatch.setattr(importing, "read_input", grouped)
    groups = import_inputs(["A", "B"], tmp_path / "set").store.groups
    assert groups.tolist() == [0, 0, 1, 2, 2, 3]


SLOW_IMPORT = """
    import sys, time
    from molformer.data.importing import import_entries
    from molformer.data.readers import Entry
    from tests.helpers import random_structure

    def entries():
        for row in range(int(sys.argv[2])):
            yield Entry(str(row), structure=random_structure(3, seed=row))
            time.sleep(0.02)
            print(row, flush=True)

    import_entries(entries(), sys.argv[1])
"""


def start_import(output, count):
    command = [sys.executable, "-c", textwrap.dedent(SLOW_IMPORT), str(output), str(count)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root}
    )


def test_a_killed_import_leaves_the_old_store(tmp_path):
    old = import_inputs(["CC"], tmp_path / "set").store.path.read_bytes()
    process = start_import(tmp_path / "set", 1000)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "set.safetensors").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2
    assert len(import_inputs(["CC", "CO"], tmp_path / "other").store) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"set.safetensors", "other.safetensors"}


def test_two_processes_at_once_both_leave_a_whole_store(tmp_path):
    processes = [start_import(tmp_path / "set", count) for count in (10, 12)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = StructureStore(tmp_path / "set")
    store.verify()
    assert len(store) in (10, 12)
    assert [path.name for path in tmp_path.iterdir()] == ["set.safetensors"]


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*/file/set"):
        import_inputs(["CC"], tmp_path / "file" / "set")


def test_progress_is_called_for_every_row(tmp_path):
    calls = []
    import_inputs(["CC", "nonsense", "CO"], tmp_path / "set", progress=lambda: calls.append(time.perf_counter()))
    assert len(calls) == 3


@pytest.mark.parametrize("processes", [0, 1])
def test_rows_of_one_molecule_are_one_group_however_it_is_spelt(tmp_path, processes):
    spellings = ["CCO", "CCN", "OCC", "C(O)C", "[CH3:1][CH2:3][OH:2]", "[13CH3]CO", "[2H]OCC", "[H]OCC"]
    groups = import_inputs(spellings, tmp_path / "set", processes=processes).store.groups
    assert len(set(np.delete(groups, 1))) == 1
    assert groups[0] != groups[1]


def test_a_wrong_cell_among_numbers_is_a_rejected_row(tmp_path):
    from molformer.data.labels import parse_targets

    table = tmp_path / "mols.csv"
    table.write_text("smiles,logS\nC,1\nCC,2\nCCC,abc\nCCCC,3\n")
    targets = parse_targets(["logS"], [table])
    assert targets[0].kind == "intensive"
    result = import_inputs([table], tmp_path / "set", ReadOptions(targets))
    assert (len(result.store), result.rejected) == (3, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", "1\nProperties=species:S:1:pos:R:3 Energy=-1.5 gap=2.5\nH 0 0 0\n", "'enrgy': perhaps Energy"),
        ("a.sdf", "", "'enrgy': perhaps ENERGY"),
        ("a.smi", "CCO\n", "'enrgy': they have none"),
        ("a.pts", "0 0 0\n", "'enrgy': they have none"),
    ],
)
def test_a_misspelt_label_is_named_with_its_like(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content or "\n\n\n  0  0  0     0  0            999 V2000\nM  END\n>  <ENERGY>\n1\n\n$$$$\n")
    with pytest.raises(InputError, match=message):
        import_inputs([path], tmp_path / "set", ReadOptions((Label("enrgy", "eV", "extensive"),)))
    assert not (tmp_path / "set.safetensors").exists()


def test_a_label_that_one_of_several_inputs_has_is_taken(tmp_path):
    for name, comment in (("a.xyz", "gap=1.5"), ("b.xyz", "")):
        (tmp_path / name).write_text(f"1\nProperties=species:S:1:pos:R:3 {comment}\nH 0 0 0\n")
    store = import_inputs([tmp_path / "a.xyz", tmp_path / "b.xyz"], tmp_path / "set", ReadOptions((GAP,))).store
    assert np.array_equal(store.column("gap"), [1.5, np.nan], equal_nan=True)


def test_labels_that_no_input_has_are_left_out_where_that_is_allowed(tmp_path, caplog):
    path = tmp_path / "a.xyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3 gap=1.5\nH 0 0 0\n")
    options = ReadOptions((GAP, Label("mu", "D", "intensive")), allow_missing=True)
    assert list(import_inputs([path], tmp_path / "set", options).store.labels) == ["gap"]
    with pytest.raises(InputError, match="no row of the inputs has a label 'mu'"):
        import_inputs([path], tmp_path / "set", ReadOptions(options.targets[1:], allow_missing=True))
    with caplog.at_level("INFO", logger="molformer"):
        import_inputs([path], tmp_path / "set")
    assert "labels: gap (intensive, Ha)" in caplog.text


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("molformer.data.store.open", lambda *_: Full(), raising=False)
    with pytest.raises(StoreError, match=r"cannot write '.*/set.safetensors': No space left on device"):
        import_inputs(["CC"], tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_a_formula_or_no_text_is_kept_from_doing_harm(tmp_path):
    table = tmp_path / os.fsdecode(b"m\xfcl.csv")
    table.write_text("smiles,name\nnonsense,=cmd\nC,@x\n")
    result = import_inputs([table], tmp_path / "set")
    ((number, name, where, _, reason, smiles),) = list(csv.reader(result.record.read_text().splitlines()))[1:]
    assert (number, name, smiles) == ("1", "'=cmd", "nonsense")
    assert "m?l.csv, line 2" in where
    assert reason.startswith(where)
    assert result.store[0].name == "@x"
    assert result.store.manifest["source"] == "m?l.csv"


def test_records_of_an_sdf_file_with_one_molecule_are_one_group(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    with Chem.SDWriter(str(tmp_path / "set.sdf")) as writer:
        for smiles in ("CCO", "OCC", "CCN"):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            writer.write(mol)
    groups = import_inputs([tmp_path / "set.sdf", "C(C)O"], tmp_path / "set").store.groups
    assert len(set(groups[[0, 1, 3]])) == 1
    assert groups[2] != groups[0]


def test_bounds_of_a_store_among_the_inputs_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("smiles,gap\nC,1\nCC,>5\n")
    first = import_inputs([tmp_path / "a.csv"], tmp_path / "a", ReadOptions((GAP,))).store
    again = import_inputs([str(first.path), "CO"], tmp_path / "b").store
    assert np.array_equal(again.column("gap>"), [np.nan, 5, np.nan], equal_nan=True)
