import csv
import gzip
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.readers import ReadOptions, read_file
from molformer.data.readers.table import guess_labels, label_value, smiles_column, split_heading
from molformer.data.structure import Label
from molformer.errors import InputError, MolformerError

SHARED = Path(__file__).parents[4] / "shared" / "data"
GAP = Label("gap", "eV", "intensive")


def written(folder, text, name="set.csv"):
    path = folder / name
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def guess_label(path, column, kind=""):
    return guess_labels(path, [(column, kind)])[0]


def column(folder, values, delimiter=","):
    lines = [f'C{delimiter}"{value}"' for value in values]
    return written(folder, "\n".join([f"smiles{delimiter}y", *lines, ""]))


def read(folder, text, *targets, name="set.csv", **options):
    return list(read_file(written(folder, text, name), ReadOptions(targets=targets, **options)))


def test_rows_have_a_smiles_a_name_and_labels(tmp_path):
    first, second = read(tmp_path, "id,SMILES,gap\nethanol,CCO,7.5\n,C,8\n", GAP)
    assert (first.name, first.smiles, float(first.labels["gap"])) == ("ethanol", "CCO", 7.5)
    assert (second.name, second.smiles, float(second.labels["gap"])) == ("C", "C", 8.0)
    assert second.where == f"{tmp_path}/set.csv, line 3"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("smiles,gap\r\nCCO,7.5\r\n", "set.csv"),
        ("\ufeffsmiles,gap\nCCO,7.5\n", "set.csv"),
        ("smiles;gap\nCCO;7.5\n", "set.csv"),
        ("smiles\tgap\nCCO\t7.5\n", "set.tsv"),
        ('"smiles","gap"\n"CCO","7.5"\n', "set.csv.gz"),
        ("\n\nsmiles,gap\n\nCCO,7.5\n\n", "set.csv"),
        (" smiles , gap \n CCO , 7.5 ", "set.csv"),
        ("smiles|gap\nCCO|7.5\n", "set.csv"),
        ("smiles;gap\nCCO;7,5\n", "set.csv"),
        ("smiles,gap\nCCO,7.5\n".encode("utf-16"), "set.csv"),
        ('smiles,"a; b; c; d",gap\nCCO,,7.5\n', "set.csv"),
    ],
)
def test_spellings_of_a_table(tmp_path, text, name):
    (entry,) = read(tmp_path, text, GAP, name=name)
    assert entry.error is None
    assert (entry.smiles, float(entry.labels["gap"])) == ("CCO", 7.5)


def test_quoted_fields_may_have_commas_quotes_and_line_ends(tmp_path):
    entries = read(tmp_path, 'name,smiles\n"a, ""b""\nc",CCO\nd,C\n')
    assert [entry.name for entry in entries] == ['a, "b"\nc', "d"]
    assert entries[1].where.endswith("line 4")


@pytest.mark.parametrize("field", ["", " ", "NA", "nan", "NaN", "null", "None", "N/A", "#N/A", "#NA", "n.a.", "?"])
def test_a_missing_label_is_nan(tmp_path, field):
    (entry,) = read(tmp_path, f"smiles,gap\nCCO,{field}\n", GAP)
    assert np.isnan(entry.labels["gap"])


@pytest.mark.parametrize("field", ["x", "1_000", "3.5%", "inf", "-inf", "1.5 eV", "٣", "0x10", "> x", "1e999"])
def test_a_label_that_is_no_number_is_an_error_of_its_row(tmp_path, field):
    bad, good = read(tmp_path, f"smiles,gap\nCCO,{field}\nC,1\n", GAP)
    assert f"line 2: label 'gap' is '{field}', which is not a finite number" in str(bad.error)
    assert good.error is None


def test_a_ragged_row_is_named_and_the_next_is_read(tmp_path):
    short, long, good = read(tmp_path, "smiles,gap\nCCO\nCCO,1,2\nC,1\n", GAP)
    assert "set.csv, line 2: 1 field where the header has 2" in str(short.error)
    assert "set.csv, line 3: 3 fields where the header has 2" in str(long.error)
    assert good.error is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("smiles,gap\n", "has a header but no rows"),
        ("smiles,gap,gap\nC,1,2\n", "more than one column called 'gap'"),
        ("name,gap\nC,1\n", "no column is called 'smiles': name the column of SMILES, one of 'name', 'gap'"),
        ("smiles,lumo\nC,1\n", "has no column 'gap'; its columns: 'smiles', 'lumo'"),
        ("smiles_in,smiles_out,gap\nC,C,1\n", "several columns may be the SMILES"),
        ("smiles,gap (eV),gap [Ha]\nC,1,2\n", "may be any of the columns 'gap (eV)', 'gap [Ha]'"),
        ("smiles,gap (D)\nC,1\n", "cannot convert 'D'"),
        (b"smiles,gap\nC,1\n\xff\xfe,2\n", "is not a text file"),
        ("smiles,gap\nC,1\n".encode("utf-16-le"), "is not a text file"),
        ("name,smiles,gap\nMüller,C,1\n".encode("cp1252"), "is not a text file in UTF-8 (byte 0xfc): save it as UTF-8"),
        ("smiles," + ",".join(f"c{n}" for n in range(100_001)) + "\nC,1\n", "more than 100000 columns"),
        ("smiles,Gapp,homo\nC,1,2\n", "has no column 'gap'; did you mean 'Gapp'?"),
        (",\nC,1\n", "has no column names"),
    ],
)
def test_a_file_that_is_no_table_of_molecules_says_why(tmp_path, text, message):
    entry = read(tmp_path, text, GAP)[-1]
    assert message in str(entry.error)
    assert "set.csv" in str(entry.error)
    assert "\n" not in str(entry.error)


def test_a_quotation_mark_that_is_not_closed_is_an_error_and_not_a_long_field(tmp_path):
    entries = read(tmp_path, 'smiles,gap\nC,1\n"CC,2\nCCC,3\n', GAP)
    assert [entry.smiles for entry in entries] == ["C", ""]
    assert "line 3 to 4: not a row of a table (unexpected end of data)" in str(entries[1].error)
    entries = read(tmp_path, 'smiles,gap\n"CC,2\n' + "C,1\n" * 50000, GAP)
    assert len(entries) == 1
    assert "field larger than field limit" in str(entries[0].error)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path):
    text = "smiles\n" + "C\n" * 100_000
    (*_, last) = read(tmp_path, text, name="set.csv.gz", max_bytes=50_000)
    assert "is larger than allowed" in str(last.error)


def test_a_file_without_line_ends_is_not_read_as_a_whole(tmp_path):
    (entry,) = read(tmp_path, b"C" * (17 * 2**20), name="set.csv.gz")
    assert "it is no table" in str(entry.error)


@pytest.mark.parametrize("targets", [(), (GAP,)])
def test_a_truncated_gzip_file_keeps_the_rows_before(tmp_path, targets):
    lines = [f"{'C' * (index % 97 + 1)},{index * 7919 % 1009}\n" for index in range(60_000)]
    path = written(tmp_path, "smiles,gap\n" + "".join(lines), "set.csv.gz")
    path.write_bytes(path.read_bytes()[:-20_000])
    entries = list(read_file(path, ReadOptions(targets=targets)))
    assert "damaged gzip file" in str(entries[-1].error)
    assert len(entries) > 1000
    assert all(entry.smiles for entry in entries[:-1])


def test_the_smiles_column_can_be_named(tmp_path):
    (entry,) = read(tmp_path, "smiles,product\nC,CCO\n", smiles_column="Product")
    assert entry.smiles == "CCO"
    (entry,) = read(tmp_path, "smiles,product\nC,CCO\n", smiles_column="educt")
    assert "has no column 'educt'" in str(entry.error)


@pytest.mark.parametrize("heading", ["smiles", "SMILES", "Canonical_SMILES", "isomeric smiles", "mol", "rdkit_smiles"])
def test_headings_of_smiles(heading):
    assert smiles_column(["x", heading, "y"]) == 1


def test_an_empty_smiles_is_an_error_of_its_row(tmp_path):
    bad, good = read(tmp_path, "smiles,gap\n,1\nC,1\n")
    assert "line 2: the SMILES is empty" in str(bad.error)
    assert good.error is None


def test_a_column_with_smiles_in_its_name_goes_before_one_of_molecules():
    assert smiles_column(["Molecule", "SMILES_std", "y"]) == 1
    assert smiles_column(["y", "Molecule"]) == 1
    with pytest.raises(InputError, match=r"several columns may be the SMILES: .* 'a_smiles', 'b_smiles'"):
        smiles_column(["mol", "a_smiles", "b_smiles"])


def test_a_delimiter_can_be_said(tmp_path):
    (entry,) = read(tmp_path, "smiles+gap\nCCO+7.5\n", GAP, delimiter="+")
    assert (entry.smiles, float(entry.labels["gap"])) == ("CCO", 7.5)
    (entry,) = read(tmp_path, "smiles,gap\nC,1\n", GAP, delimiter=",,")
    assert "1-character string" in str(entry.error)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["-0,37", "−0,5", "1,313", "2"], [-0.37, -0.5, 1.313, 2]),
        (["−0.5", "–1.5", "1e-3"], [-0.5, -1.5, 0.001]),
        (["0,5", "1,25", "1.313"], [0.5, 1.25, None]),
        (["0.5", "1.25", "1,313"], [0.5, 1.25, None]),
        (["0,5", "0,25", "1.313,5"], [0.5, 0.25, None]),
        (["0.1", "1.5", "2.5", *["-"] * 5], [0.1, 1.5, 2.5, *[None] * 5]),
        (["0.1", "#N/A", "#N/A", "#N/A", "1.5"], [0.1, math.nan, math.nan, math.nan, 1.5]),
    ],
)
def test_spellings_of_numbers(tmp_path, values, expected):
    path = column(tmp_path, values)
    label = guess_label(path, "y")
    assert label == Label("y", "", "intensive")
    for entry, value in zip(read_file(path, ReadOptions(targets=(label,))), expected, strict=True):
        if value is None:
            assert "which is not a finite number" in str(entry.error)
        else:
            assert np.array_equal(entry.labels["y"], value, equal_nan=True)


@pytest.mark.parametrize(
    "values",
    [["1,000", "1,313"], ["3.5%", "4 %"], [">10", "<0.5"], ["1.5 nM", "2 µM"], ["1 313,5", "2 000,5"], ["~5", "5 ± 1"]],
)
def test_what_looks_like_numbers_and_is_none_is_no_class(tmp_path, values):
    path = column(tmp_path, values)
    with pytest.raises(InputError, match=r"looks like a number and cannot be read as one: .* or say y=category"):
        guess_label(path, "y")
    assert guess_label(path, "y", "category").classes == tuple(sorted(values))


@pytest.mark.parametrize("values", [["+", "-"], ["3A4", "2D6"], ["active", "1"], ["1.1.1.1", "1.1.1.2"]])
def test_names_of_classes_may_have_digits_and_signs(tmp_path, values):
    assert guess_label(column(tmp_path, values), "y").classes == tuple(
        sorted(values, key=lambda text: (text != "1", text))
    )


def test_whole_numbers_are_classes_if_they_are_said_to_be_in_their_order_and_from_all_rows(tmp_path):
    path = column(tmp_path, [*["2", "10"] * 600, "1", ""])
    assert guess_label(path, "y", "category") == Label("y", "", "category", ("1", "2", "10"))
    names = column(tmp_path, [*["a", "b"] * 600, "c"])
    assert guess_label(names, "y").classes == ("a", "b", "c")


def test_classes_that_differ_by_case_or_blanks_alone_are_warned_of_once(tmp_path, caplog):
    guess_label(column(tmp_path, ["active", "Active", "in active", "inactive", "other"]), "y")
    assert [record.getMessage().partition("alone: ")[2] for record in caplog.records] == [
        "'Active', 'active'",
        "'in active', 'inactive'",
    ]


def test_a_trailing_comma_is_named_and_not_a_column_without_values(tmp_path):
    with pytest.raises(InputError, match=r"line 2: 3 fields where the header has 2"):
        guess_label(written(tmp_path, "smiles,y\nC,0.5,\nCC,1,\n"), "y")


def test_many_columns_are_looked_up_in_linear_time(tmp_path):
    names = [f"c{n}" for n in range(40_000)]
    path = written(tmp_path, f"smiles,{','.join(names)}\nC,{','.join('12' for _ in names)}\n")
    start = time.process_time()
    labels = guess_labels(path, [(name, "") for name in names])
    (entry,) = read_file(path, ReadOptions(targets=tuple(labels)))
    assert time.process_time() - start < 5  # each name by a look at all columns would take minutes
    assert len(entry.labels) == len(names)


def test_values_are_converted_from_the_unit_of_the_heading(tmp_path):
    for heading, value in (("gap (eV)", 2.0), ("gap [Ha]", 54.422772), ("gap", 2.0)):
        (entry,) = read(tmp_path, f"smiles,{heading}\nC,2\n", GAP)
        assert np.isclose(entry.labels["gap"], value)


def test_binary_labels_and_classes():
    toxic = Label("toxic", "", "binary")
    assert [label_value(toxic, text, "") for text in ("0", "1", "True", "FALSE", "1.0")] == [0, 1, 1, 0, 1]
    assert math.isnan(label_value(toxic, "", ""))
    colour = Label("colour", "", "category", ("blue", "none", "red"))
    assert [label_value(colour, text, "") for text in ("blue", "red", "none")] == [0, 2, 1]
    with pytest.raises(InputError, match=r"row 3: label 'colour' is 'green', .* one of the classes blue, none, red"):
        label_value(colour, "green", "row 3")
    with pytest.raises(InputError, match="which is not 0, 1, true or false"):
        label_value(toxic, "2", "")


def test_labels_that_belong_to_a_geometry_are_refused(tmp_path):
    (entry,) = read(tmp_path, "smiles,mu\nC,1\n", Label("mu", "D", "vector"))
    assert "belongs to a geometry" in str(entry.error)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        (["0", "1", "", "0"], Label("y", "", "binary")),
        (["true", "False"], Label("y", "", "binary")),
        (["0", "1", "0.5"], Label("y", "eV", "intensive")),
        (["-7", "NA", "1e3"], Label("y", "eV", "intensive")),
        (["red", "blue", "red"], Label("y", "", "category", ("blue", "red"))),
    ],
)
def test_a_label_is_guessed_from_its_values(tmp_path, values, label):
    path = written(tmp_path, "smiles,y (eV)\n" + "".join(f"C,{value}\n" for value in values))
    assert guess_label(path, "y (eV)") == label
    (*_, last) = read_file(path, ReadOptions(targets=(guess_label(path, "y"),)))
    assert last.error is None


@pytest.mark.parametrize(
    ("values", "message"), [([""], "no values"), ([f"x{n}" for n in range(60)], "is no label: 'x0'")]
)
def test_a_column_that_is_no_label_says_why(tmp_path, values, message):
    path = written(tmp_path, "smiles,y\n" + "".join(f"C,{value}\n" for value in values))
    with pytest.raises(InputError, match=message):
        guess_label(path, "y")


def test_a_unit_that_is_not_known_stays_part_of_the_name():
    assert split_heading("gap (furlong)") == ("gap (furlong)", "")
    assert split_heading("energy[kcal/mol]") == ("energy", "kcal/mol")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow: pip install 'molformer[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"smiles": ["CCO", None, "C"], "gap": [1.5, 2.0, None], "toxic": [True, False, None]})
    parquet.write_table(table, tmp_path / "set.parquet")
    toxic = Label("toxic", "", "binary")
    first, empty, last = read_file(tmp_path / "set.parquet", ReadOptions(targets=(GAP, toxic)))
    assert (first.smiles, float(first.labels["gap"]), float(first.labels["toxic"])) == ("CCO", 1.5, 1.0)
    assert "row 2: the SMILES is empty" in str(empty.error)
    assert np.isnan(last.labels["gap"])
    assert np.isnan(last.labels["toxic"])
    assert guess_label(tmp_path / "set.parquet", "toxic") == toxic
    (entry,) = read_file(tmp_path / "set.parquet", ReadOptions(max_bytes=10))
    assert "larger than allowed" in str(entry.error)
    (entry,) = read(tmp_path, b"PAR1 no PAR1", name="bad.parquet")
    assert "not a Parquet file" in str(entry.error)
    assert "\n" not in str(entry.error)
    parquet.write_table(pyarrow.table({"smiles": [b"CCO", b"\xff"]}), tmp_path / "bytes.parquet")
    assert [entry.smiles for entry in read_file(tmp_path / "bytes.parquet")] == ["CCO", "\ufffd"]


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (entry,) = read(tmp_path, b"PAR1", name="set.parquet")
    assert "pip install 'molformer[parquet]'" in str(entry.error)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))))
def test_any_table_survives_a_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "set.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "smiles", "gap"])
        writer.writerows(rows)
    entries = list(read_file(path, ReadOptions(targets=(GAP,))))
    assert len(entries) == max(len(rows), 1)
    for entry, (_, smiles, gap) in zip(entries, rows, strict=False):
        smiles = smiles.replace("\r\n", "\n").replace("\r", "\n").strip()
        if smiles:
            assert entry.error is None
            assert entry.smiles == smiles
            assert np.array_equal(entry.labels["gap"], np.nan if gap is None else gap, equal_nan=True)
        else:
            assert isinstance(entry.error, MolformerError)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=120), st.text('smile,";\t\n\r01.C ', max_size=80).map(str.encode)))
def test_any_bytes_give_entries_and_never_another_exception(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for prefix in (b"", b"smiles,gap\n"):
        entries = read(folder, prefix + content, GAP)
        assert entries
        for entry in entries:
            assert (entry.error is None and entry.smiles) or isinstance(entry.error, MolformerError)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development data are not beside the repository")
@pytest.mark.parametrize(
    ("name", "column", "kind", "rows"),
    [
        ("bace", "Class", "binary", 1513),
        ("delaney", "logp", "intensive", 1128),
        ("freesolv", "freesolv", "intensive", 642),
        ("lipo", "lipo", "intensive", 4200),
        ("tox21", "NR-AhR", "binary", 7831),
    ],
)
def test_tables_of_moleculenet(name, column, kind, rows):
    path = SHARED / f"{name}.csv"
    label = guess_label(path, column)
    assert (label.name, label.kind) == (column, kind)
    entries = list(read_file(path, ReadOptions(targets=(label,))))
    assert len(entries) == rows
    assert all(entry.error is None for entry in entries)


@pytest.mark.parametrize(
    ("field", "side", "value"),
    [
        *(
            (">5", ">", 5),
            (">=5", ">", 5),
            ("≥ 5.0", ">", 5),
            (">>5", ">", 5),
            ("< -0.1", "<", -0.1),
            ("<=−3", "<", -3),
        ),
        *(("≤.5", "<", 0.5), ("~5", "", 5), ("≈ 5", "", 5), ("=5", "", 5)),
    ],
)
def test_a_censored_value_is_a_bound_beside_a_missing_value(tmp_path, field, side, value):
    path = written(tmp_path, f"smiles,y (kJ/mol)\nC,1\nCC,{field}\nCCC,2\n")
    label = guess_label(path, "y")
    assert label == Label("y", "kJ/mol", "intensive")
    exact, found, _ = (entry.labels for entry in read_file(path, ReadOptions(targets=(label,))))
    assert list(exact) == ["y"]
    expected = {"y": math.nan, f"y{side}": value} if side else {"y": value}
    assert {name: pytest.approx(float(number), nan_ok=True) for name, number in found.items()} == expected
    in_kcal = ReadOptions(targets=(Label("y", "kcal/mol", "intensive"),))
    assert float([*read_file(path, in_kcal)][1].labels[f"y{side}"]) == pytest.approx(value / 4.184)


def test_a_censored_value_is_refused_on_request_and_has_a_decimal_comma_where_the_column_has(tmp_path):
    path = written(tmp_path, "smiles;y\nC;1,5\nCC;>7,25\nCCC;2,5\n")
    options = ReadOptions(targets=(guess_label(path, "y"),))
    assert float([*read_file(path, options)][1].labels["y>"]) == 7.25
    refused = [*read_file(path, replace(options, censored="refuse"))][1]
    assert "line 3: label 'y' is '>7,25', a bound" in str(refused.error)
    assert refused.smiles == "CC"
    with pytest.raises(InputError, match="censored 'drop' is not one of bounds, refuse"):
        replace(options, censored="drop")


def test_bounds_alone_may_be_classes_and_are_not_guessed(tmp_path):
    with pytest.raises(InputError, match="looks like a number"):
        guess_label(column(tmp_path, ["<1", ">1", ">1"]), "y")
