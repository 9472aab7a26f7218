from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.readers import ReadOptions, format_of, read_file
from molformer.data.structure import Label

DATA = Path(__file__).parents[4] / "shared" / "data"
PROPERTIES = "Properties=species:S:1:pos:R:3"


def frame(comment, columns="", rows=("", "", "")):
    atoms = ("O 0 0 0", "H 0.96 0 0", "H -0.24 0.93 0")
    lines = "\n".join(f"{atom} {row}" for atom, row in zip(atoms, rows, strict=True))
    return f"3\n{PROPERTIES}{columns} {comment}\n{lines}\n"


def read(tmp_path, text, *targets):
    path = tmp_path / "set.extxyz"
    path.write_text(text)
    return list(read_file(path, ReadOptions(targets=targets)))


def test_a_frame_that_is_said_to_have_endless_atoms_ends_with_the_file(tmp_path):
    (entry,) = read(tmp_path, f"{10**15}\n\nO 0 0 0\n")
    assert "it ends early" in str(entry.error)


def test_what_ase_writes_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    forces, dipole, charges = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    atoms = Atoms("OH2", rng.normal(size=(3, 3)), cell=[[9, 0, 0], [1, 8, 0], [0, 2, 7]], pbc=(True, False, True))
    atoms.calc = SinglePointCalculator(atoms, energy=-7.5, forces=forces, dipole=dipole, charges=charges)
    atoms.info.update(charge=-1, spin=2, gap=0.25)
    atoms.set_array("shift", np.array([1.5, 2.5, 3.5]))
    path = tmp_path / "set.xyz"
    write(path, atoms, format="extxyz")

    (entry,) = read_file(path)
    structure = entry.structure
    assert (structure.charge, structure.spin) == (-1, 2)
    assert np.allclose(structure.cell, [[9, 0, 0], [1, 8, 0], [0, 2, 7]])
    assert structure.pbc == (True, False, True)
    expected = {"energy": -7.5, "forces": forces, "dipole": dipole, "charges": charges, "gap": 0.25}
    for name, value in {**expected, "shift": [1.5, 2.5, 3.5]}.items():
        assert np.allclose(structure.labels[name], value, atol=1e-7), name

    labels = {label.name: (label.kind, label.unit) for label in format_of(path).labels(path, ReadOptions())}
    assert labels == {
        "energy": ("extensive", "eV"),
        "forces": ("forces", "eV/Å"),
        "dipole": ("vector", "e·Å"),
        "charges": ("charges", "e"),
        "gap": ("intensive", "Ha"),
        "shift": ("atom", ""),
    }


def test_only_the_targets_are_taken_and_their_units_are_those_of_the_file(tmp_path):
    target = Label("energy", "Ha", "extensive")
    (entry,) = read(tmp_path, frame("energy=-76.5 gap=0.5"), target)
    assert {name: float(value) for name, value in entry.structure.labels.items()} == {"energy": -76.5}


def test_a_label_that_a_later_frame_lacks_is_missing(tmp_path):
    entries = read(tmp_path, frame("gap=0.5") + frame(""))
    assert [dict(entry.structure.labels) for entry in entries] == [{"gap": 0.5}, {}]


def test_counters_and_words_are_no_labels_unless_asked_for(tmp_path):
    text = frame("step=4 config_type=liquid done=T gap=0.5")
    assert list(read(tmp_path, text)[0].structure.labels) == ["gap"]
    assert read(tmp_path, text, Label("step", "", "intensive"))[0].structure.labels == {"step": 4.0}


@pytest.mark.parametrize(
    ("comment", "columns", "rows", "target", "message"),
    [
        ('dipole="1 2"', "", ("",) * 3, Label("dipole", "D", "vector"), r"shape \(2,\), a label of kind 'vector'"),
        ("gap=wide", "", ("",) * 3, Label("gap", "eV", "intensive"), "needs numbers"),
        ('q="1 2 3"', "", ("",) * 3, Label("q", "e", "charges"), "has a value for each frame"),
        ("", ":q:R:1", ("1", "2", "3"), Label("q", "e", "intensive"), "has a value for each atom"),
        ("", ":q:R:2", ("1 1", "2 2", "3 3"), Label("q", "e", "charges"), r"shape \(3, 2\)"),
        ("charge=0.5", "", ("",) * 3, None, "charge '0.5' is not a whole number"),
        ("charge=nan", "", ("",) * 3, None, "charge 'nan' is not a whole number"),
        ("spin=0", "", ("",) * 3, None, "at least 1"),
        ('Lattice="1 0 0 2 0 0 0 0 1"', "", ("",) * 3, None, "three independent lattice vectors"),
    ],
)
def test_a_wrong_value_is_the_error_of_its_row(tmp_path, comment, columns, rows, target, message):
    targets = () if target is None else (target,)
    good = frame("", columns, rows) if not columns else frame("")
    bad, after = read(tmp_path, frame(comment, columns, rows) + good, *targets)
    assert bad.structure is None
    assert after.structure is not None
    with pytest.raises(type(bad.error), match=message):
        raise bad.error
    assert "frame 1" in str(bad.error)


def test_cells(tmp_path):
    none, slab, box = read(
        tmp_path,
        frame('Lattice="0 0 0 0 0 0 0 0 0"')
        + frame('Lattice="4 0 0 0 4 0 0 0 0" pbc="T T F"')
        + frame('Lattice="4 0 0 0 5 0 0 0 6"'),
    )
    assert none.structure.cell is None
    assert np.allclose(slab.structure.cell, np.diag([4, 4, 1]))
    assert slab.structure.pbc == (True, True, False)
    assert np.allclose(box.structure.cell, np.diag([4, 5, 6]))
    assert box.structure.pbc == (True, True, True)


def test_labels_of_a_file_that_cannot_be_read_are_none(tmp_path):
    for text in ("", "hello", "2\n\nC 0 0 0\n"):
        (tmp_path / "set.xyz").write_text(text)
        assert format_of(tmp_path / "set.xyz").labels(tmp_path / "set.xyz", ReadOptions()) == []


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=80))
def test_any_comment_line_gives_entries_and_never_another_exception(tmp_path_factory, comment):
    (entry,) = read(tmp_path_factory.mktemp("xyz"), frame(comment))[:1]
    assert (entry.structure is None) == (entry.error is not None)


@pytest.mark.parametrize("where", ["results", "info", "six numbers"])
def test_a_stress_is_that_of_ase(tmp_path, where):
    atoms = Atoms("OH2", np.eye(3), cell=[[9, 0, 0], [1, 8, 0], [0, 2, 7]], pbc=True)
    voigt = np.array([1.5, -2.5, 3.5, 0.25, -0.5, 0.75])
    full = np.array([[1.5, 0.75, -0.5], [0.75, -2.5, 0.25], [-0.5, 0.25, 3.5]])
    path, name = tmp_path / "set.xyz", "stress" if where == "results" else "dft_stress"
    if where == "results":
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, stress=voigt)
    else:
        atoms.info[name] = full if where == "info" else voigt
    write(path, atoms, format="extxyz")
    (entry,) = read_file(path)
    assert np.allclose(entry.structure.labels[name], full, atol=1e-7)
    assert Label(name, "eV/Å^3", "stress") in format_of(path).labels(path, ReadOptions())
    assert entry.structure.periodic


def test_what_is_not_periodic_has_no_stress(tmp_path):
    stress = 'stress="1 0 0 0 2 0 0 0 3"'
    lattice = 'Lattice="4 0 0 0 5 0 0 0 6"'
    target = Label("stress", "GPa", "stress")
    molecule, slab, crystal = read(
        tmp_path, frame(stress) + frame(f'{stress} {lattice} pbc="T T F"') + frame(f"{stress} {lattice}"), target
    )
    assert not molecule.structure.labels
    assert not slab.structure.labels
    assert np.array_equal(crystal.structure.labels["stress"], np.diag([1.0, 2.0, 3.0]))


def test_vectors_of_atoms_are_labels(tmp_path):
    entry, _ = read(tmp_path, 2 * frame("", ":velocities:R:3", ("1 2 3", "4 5 6", "7 8 9.5")))
    assert np.array_equal(entry.structure.labels["velocities"], [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]])


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the repository")
def test_tensors_of_real_water():
    targets = (Label("mu", "e·a0", "vector"), Label("alpha", "a0^3", "tensor"))
    entries = list(read_file(DATA / "water_monomer_tensors.xyz", ReadOptions(targets=targets)))
    assert len(entries) == 1000
    first = entries[0].structure
    assert np.allclose(first.labels["mu"], [-0.734398, 0, -0.040971])
    assert np.allclose(first.labels["alpha"], first.labels["alpha"].T)
    assert first.cell is None
