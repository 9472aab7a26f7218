import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.conformer_generation import with_geometry
from molformer.data.readers import is_file, read_input
from molformer.elements import SYMBOLS
from molformer.errors import InputError, MolformerError
from molformer.inference.sources import read_lines
from tests.helpers import random_structure

WATER = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def read(tmp_path, text, name="mol.xyz"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(with_geometry(read_input(path)))


def test_plain_xyz(tmp_path):
    (entry,) = read(tmp_path, WATER)
    assert entry.structure.formula == "H2O"
    assert np.allclose(entry.structure.pos[1], [0.96, 0, 0])
    assert entry.structure.geometry == "given"


@pytest.mark.parametrize(
    "text",
    [
        WATER.replace("\n", "\r\n"),
        "\ufeff" + WATER,
        WATER + "\n\n",
        WATER.replace("O 0", "o 0"),
        WATER.replace("water", 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3'),
    ],
)
def test_spellings_of_xyz(tmp_path, text):
    (entry,) = read(tmp_path, text)
    assert entry.structure.formula == "H2O"


def test_several_frames(tmp_path):
    entries = read(tmp_path, WATER + WATER)
    assert [entry.name.rpartition("/")[2] for entry in entries] == ["mol.xyz", "mol.xyz, frame 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("3\nwater\nO 0 0 0\nH 0.96 0 0\n", "not a complete XYZ file: frame 1: it ends early, after 2 of 3 atoms"),
        (WATER.replace("0.96", "nan"), "position of atom 2 is not a finite number"),
        (WATER.replace("0.96", "inf"), "position of atom 2 is not a finite number"),
        (WATER.replace("0.96", "x"), "frame 1: atom 2: 'x' is not a number"),
        (WATER.replace("O 0", "Qq 0"), "'Qq' is not a chemical symbol"),
        (WATER.replace("0.96 0 0", "0.96 0"), "frame 1: atom 2 has 3 columns, expected 4"),
        ("hello\n" + WATER, "not a complete XYZ file: frame 1: 'hello' is not a number of atoms"),
        ("0\n\n", "the molecule has no atoms"),
        (bytes(range(128, 256)), "is not a text file"),
    ],
)
def test_malformed_xyz_is_one_clear_error(tmp_path, text, message):
    (entry,) = read(tmp_path, text)
    assert entry.structure is None
    assert message in str(entry.error)
    assert "mol.xyz" in str(entry.error)
    assert "\n" not in str(entry.error)


def test_a_broken_frame_does_not_take_the_good_ones_with_it(tmp_path):
    entries = read(tmp_path, WATER + "5\n\nC 0 0 0\n")
    assert [entry.structure is not None for entry in entries] == [True, False]


def test_a_file_of_smiles_keeps_every_row(tmp_path):
    entries = read(tmp_path, "# comment\nCCO ethanol\n\nnonsense\nc1ccccc1\n", "mols.smi")
    assert [entry.name for entry in entries] == ["ethanol", "nonsense", "c1ccccc1"]
    assert [entry.structure is not None for entry in entries] == [True, False, True]
    assert "mols.smi, line 4" in str(entries[1].error)


def test_a_missing_file_and_an_unknown_kind_of_file(tmp_path):
    (entry,) = read_input(str(tmp_path / "nothing.xyz"))
    assert "cannot read" in str(entry.error)
    assert "No such file" in str(entry.error)
    (tmp_path / "mol.docx").write_text("")
    (entry,) = read_input(tmp_path / "mol.docx")
    assert "files of type '.docx' cannot be read" in str(entry.error)


def test_smiles_and_structures():
    assert not is_file("CCO")
    assert is_file("a.XYZ")
    (entry,) = read_input(random_structure(3, name="mine"))
    assert entry.name == "mine"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 118), *[st.floats(-1e3, 1e3, allow_nan=False)] * 3),
        min_size=1,
        max_size=12,
    )
)
def test_any_molecule_survives_a_round_trip_through_xyz(tmp_path_factory, atoms):
    lines = [f"{SYMBOLS[number]} {x!r} {y!r} {z!r}" for number, x, y, z in atoms]
    (entry,) = read(tmp_path_factory.mktemp("xyz"), f"{len(atoms)}\n\n" + "\n".join(lines) + "\n")
    assert entry.structure.numbers.tolist() == [atom[0] for atom in atoms]
    assert np.allclose(entry.structure.pos, [atom[1:] for atom in atoms], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_entries_and_never_another_exception(tmp_path_factory, content):
    for entry in read(tmp_path_factory.mktemp("bytes"), content):
        assert (entry.structure is None) == isinstance(entry.error, MolformerError)


def test_what_has_no_utf_8_is_replaced_in_names_and_messages():
    (entry,) = read_input("CC\udcfc")
    assert (entry.name, entry.smiles) == ("CC?", "CC?")
    assert str(InputError("file '\udcfc': wrong")) == "file '?': wrong"


def test_lines_of_standard_input_that_are_not_utf_8_are_rows_with_an_error():
    lines = list(read_lines([b"\xef\xbb\xbfCCO ethanol\n", b"CC\xfcO x\n", b"# no\n", b"C\n"]))
    assert [entry.name for entry in lines] == ["ethanol", "standard input, line 2", "C"]
    assert "standard input, line 2: byte 0xfc is not UTF-8" in str(lines[1].error)
    (entry,) = read_lines(["CCO".encode("utf-16")])
    assert "line 1: byte 0xff is not UTF-8" in str(entry.error)
