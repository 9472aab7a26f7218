from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.labels import parse_targets
from molformer.data.readers import ReadOptions, format_of, read_file
from molformer.data.structure import Label
from molformer.errors import InputError

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


@pytest.mark.parametrize(("atoms", "message"), [(10**15, "said to have 1000000000000000 atoms"), (4, "it ends early")])
def test_a_frame_that_is_said_to_have_too_many_atoms(tmp_path, atoms, message):
    (entry,) = read(tmp_path, f"{atoms}\n\nO 0 0 0\n")
    assert message in str(entry.error)


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


def frames(*texts):
    return "".join(frame(text) for text in texts)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Q 0 0 0", "frame 2: atom 1: 'Q' is not a chemical symbol"),
        ("O **** 0 0", r"frame 2: atom 1: '\*\*\*\*' is not a number"),
        ("O 0 0", "frame 2: atom 1 has 3 columns, expected 4|name 4 columns, its first atom has 3"),
        ("X 0 0 0", "frame 2: an atom is a placeholder"),
        ("0 0 0 0", "frame 2: an atom is a placeholder"),
        ("O 1e400 0 0", "frame 2: the position of atom 1 is not a finite number"),
        ("O 1e5 0 0", "frame 2: its positions extend over"),
    ],
)
def test_a_frame_that_cannot_be_read_costs_no_other(tmp_path, line, message):
    bad = frame("gap=2.5").replace("O 0 0 0", line)
    first, broken, last = read(tmp_path, frame("gap=1.5") + bad + frame("gap=3.5"))
    assert float(first.structure.labels["gap"]) == 1.5
    assert float(last.structure.labels["gap"]) == 3.5
    assert broken.name.endswith("frame 2")
    with pytest.raises(InputError, match=message):
        raise broken.error


def test_after_what_is_no_frame_there_is_one_error(tmp_path):
    first, rest = read(tmp_path, frame("gap=1.5") + "footer\n" + frame("gap=2.5"))
    assert first.structure is not None
    assert "frame 2: 'footer' is not a number of atoms" in str(rest.error)


def test_more_columns_than_there_are_take_no_memory(tmp_path):
    for count in ("300000000", "9" * 5000, "-1"):
        (entry,) = read(tmp_path, f"1\n{PROPERTIES}:x:R:{count}\nH 0 0 0\n")
        assert "`Properties`" in str(entry.error)


def labels_of(tmp_path, text):
    (tmp_path / "set.xyz").write_text(text)
    return {each.name: each for each in format_of(tmp_path / "set.xyz").labels(tmp_path / "set.xyz", ReadOptions())}


def test_labels_are_those_of_all_frames_and_it_is_said_which_only_some_have(tmp_path, caplog):
    atom = '1\nProperties=species:S:1:pos:R:3 REF_energy=-430 pbc="F F F"\nO 0 0 0\n'
    text = atom + 2 * frame("REF_energy=-76.5", ":REF_forces:R:3", ("1 2 3", "4 5 6", "7 8 9"))
    found = labels_of(tmp_path, text)
    assert {name: label.kind for name, label in found.items()} == {"REF_energy": "extensive", "REF_forces": "forces"}
    assert "only some frames have REF_forces (2 of 3 frames); all have REF_energy" in caplog.text
    first, second, _ = read(tmp_path, text, *found.values())
    assert float(first.structure.labels["REF_energy"]) == -430
    assert second.structure.labels["REF_forces"].shape == (3, 3)


def test_whole_numbers_and_zeros_under_a_known_name_are_labels(tmp_path):
    lattice, zero = 'Lattice="9 0 0 0 9 0 0 0 9"', 'stress="0 0 0 0 0 0 0 0 0"'
    text = frames(f"{lattice} energy=-76 {zero} step=3", f"{lattice} energy=-76.5 {zero} step=4")
    assert set(labels_of(tmp_path, text)) == {"energy", "stress"}
    assert [float(entry.structure.labels["energy"]) for entry in read(tmp_path, text)] == [-76.0, -76.5]


def test_a_dipole_has_one_unit_under_all_names(tmp_path):
    found = labels_of(tmp_path, frame('dipole="1 2 3.5" REF_dipole="1 2 3.5" dft_dipole="1 2 3.5"'))
    assert {label.unit for label in found.values()} == {"e·Å"}
    (label,) = parse_targets(["REF_dipole"], [str(tmp_path / "set.xyz")])
    assert (label.unit, label.kind) == ("e·Å", "vector")


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize(("name", "stress"), [("virial", "stress"), ("REF_virials", "REF_stress")])
def test_a_virial_is_minus_the_stress_times_the_volume(tmp_path, name, stress, six):
    values = "1 2 3 4 5 6" if six else "1 6 5 6 2 4 5 4 3"
    lattice = 'Lattice="10 0 0 0 10 0 0 0 10"'
    crystal, molecule = read(tmp_path, frames(f'{lattice} {name}="{values}"', f'{name}="{values}"'))
    expected = -np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]) / 1000
    assert np.allclose(crystal.structure.labels[stress], expected, atol=1e-12)
    assert not molecule.structure.labels
    assert labels_of(tmp_path, frame(f'{lattice} {name}="{values}"')) == {stress: Label(stress, "eV/Å^3", "stress")}


def test_a_stress_of_six_numbers_is_read(tmp_path):
    (entry,) = read(tmp_path, frame('Lattice="9 0 0 0 9 0 0 0 9" stress="1 2 3 4 5 6"'))
    assert np.array_equal(entry.structure.labels["stress"], [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


@pytest.mark.parametrize(
    ("comment", "charge", "spin"),
    [
        ("Charge=1 Multiplicity=2", 1, 2),
        ("TOTAL_CHARGE=-1 SPIN=3", -1, 3),
        ("net_charge=2 mult=1", 2, 1),
        ("charge=1 Charge=1.0", 1, 2),  # an odd number of electrons
    ],
)
def test_charge_and_multiplicity_in_any_spelling(tmp_path, comment, charge, spin):
    (entry,) = read(tmp_path, frame(comment))
    assert (entry.structure.charge, entry.structure.spin) == (charge, spin)


def test_two_charges_contradict_each_other(tmp_path):
    (entry,) = read(tmp_path, frame("charge=1 total_charge=0"))
    assert "charge 1 and total_charge 0 contradict each other" in str(entry.error)


@pytest.mark.parametrize(
    "rows",
    [
        "8 0 0 0\n1 0.96 0 0\n1 -0.24 0.93 0",
        "O1 0 0 0\nH2 0.96 0 0\nh_3 -0.24 0.93 0",
        "O 0 0 0.0D+00\nH 9.6d-1 0 0\nH -0.24 0.93 0.0*^-6",
        "\tO 0 0 0\nH .96 0 0 extra words\nH -24.D-2 0.93 0",
    ],
)
def test_other_ways_to_write_atoms(tmp_path, rows):
    (entry,) = read(tmp_path, f"\n\n3\nwater\n{rows}\n\n")
    assert entry.structure.numbers.tolist() == [8, 1, 1]
    assert np.allclose(entry.structure.pos, [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


QM9 = (
    "3\ngdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702"
    "\t-76.401867\t-76.400922\t-76.422349\t6.002\nO\t-0.03\t0.97\t7.6*^-6\t-0.58\nH\t0.02\t0.02\t0\t0.29\n"
    "H\t0.91\t1.27\t2.1e-5\t0.29\n1671.4\t3803.6\t3907.6\nO\tO\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
)


def test_the_files_of_qm9(tmp_path):
    first, second, third = read(tmp_path, 2 * QM9 + frame(""))
    labels = first.structure.labels
    assert float(labels["homo"]) == -0.2928
    assert float(labels["u0"]) == -76.404702
    assert labels["charges"].tolist() == [-0.58, 0.29, 0.29]
    assert second.structure.formula == third.structure.formula == "H2O"
    assert labels_of(tmp_path, QM9)["homo"] == Label("homo", "Ha", "intensive")
    cut = QM9.replace("\t437.90386", "").replace("-0.58", "")
    assert read(tmp_path, cut + frame(""))[1].structure is not None


def test_lattice_vectors_after_the_atoms(tmp_path):
    entry, after = read(tmp_path, "1\n\nH 0 0 0\nVEC1 4 0 0\nVEC2 0 5 0\n" + frame(""))
    assert entry.structure.pbc == (True, True, False)
    assert np.allclose(entry.structure.cell[:2], [[4, 0, 0], [0, 5, 0]])
    assert after.structure.cell is None
