import gzip
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.readers import ReadOptions, format_of, read_file
from molformer.data.structure import Label
from molformer.errors import MolformerError
from molformer.units import BOHR, HARTREE

DATA = Path(__file__).parents[4] / "shared" / "data"


def save(tmp_path, arrays):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    return path


def labels_of(path):
    return {label.name: (label.kind, label.unit) for label in format_of(path).labels(path, ReadOptions())}


def trajectory(**changes):
    rng = np.random.default_rng(0)
    arrays = {"R": rng.normal(size=(4, 3, 3)), "z": np.array([8, 1, 1], np.uint8), "E": rng.normal(size=4)}
    arrays |= {"F": rng.normal(size=(4, 3, 3)).astype(np.float32), "e_unit": "eV", "r_unit": "Ang", **changes}
    return {name: value for name, value in arrays.items() if value is not None}


def ragged(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "positions": rng.normal(size=(5, 3)).astype(np.float32),
        "numbers": np.array([8, 1, 1, 6, 8], np.uint8),
        "offsets": np.array([0, 3, 5], np.int32),
        "targets": np.array([[1.0, np.nan], [3.0, 4.0]]),
        "target_names": np.array(["gap", "r2"]),
        "target_units": np.array(["eV", "a0^2"]),
        **changes,
    }
    return {name: value for name, value in arrays.items() if value is not None}


def test_trajectory(tmp_path):
    arrays = trajectory()
    path = save(tmp_path, arrays)
    entries = list(read_file(path))
    assert len(entries) == 4
    for row, entry in enumerate(entries):
        assert entry.structure.formula == "H2O"
        assert entry.structure.group == -1
        assert np.allclose(entry.structure.pos, arrays["R"][row])
        assert np.allclose(entry.structure.labels["energy"], arrays["E"][row])
        assert np.allclose(entry.structure.labels["forces"], arrays["F"][row])
    assert labels_of(path) == {"energy": ("extensive", "eV"), "forces": ("forces", "eV/Å")}


def test_energies_may_be_a_column_and_forces_may_be_absent(tmp_path):
    path = save(tmp_path, trajectory(E=np.arange(4.0)[:, None], F=None))
    assert [dict(entry.structure.labels) for entry in read_file(path)] == [{"energy": row} for row in range(4)]


def test_units_of_a_trajectory(tmp_path):
    arrays = trajectory(e_unit=np.array(b"Hartree"), r_unit="Bohr")
    path = save(tmp_path, arrays)
    assert labels_of(path) == {"energy": ("extensive", "Ha"), "forces": ("forces", "Ha/a0")}
    targets = (Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces"))
    entry = next(read_file(path, ReadOptions(targets=targets)))
    assert np.allclose(entry.structure.pos, arrays["R"][0] * BOHR)
    assert np.allclose(entry.structure.labels["energy"], arrays["E"][0] * HARTREE)
    assert np.allclose(entry.structure.labels["forces"], arrays["F"][0] * HARTREE / BOHR)


def test_a_force_unit_without_a_name_becomes_one_that_has(tmp_path):
    arrays = trajectory(e_unit="Ha")
    path = save(tmp_path, arrays)
    assert labels_of(path)["forces"] == ("forces", "eV/Å")
    entry = next(read_file(path))
    assert np.allclose(entry.structure.labels["forces"], arrays["F"][0] * HARTREE)


def test_without_a_unit_it_is_that_of_the_target_or_a_warning(tmp_path, caplog):
    arrays = trajectory(e_unit=None, r_unit=None)
    path = save(tmp_path, arrays)
    targets = (Label("E", "kcal/mol", "extensive"),)
    entry = next(read_file(path, ReadOptions(targets=targets)))
    assert entry.structure.labels == {"E": arrays["E"][0]}
    with caplog.at_level(logging.WARNING):
        assert labels_of(path)["energy"] == ("extensive", "eV")
    assert "does not say the unit of 'energy'; taken as eV" in caplog.text


def test_rmd17_is_in_kcal_per_mol(tmp_path):
    arrays = trajectory()
    path = save(
        tmp_path,
        {"coords": arrays["R"], "nuclear_charges": arrays["z"], "energies": arrays["E"], "forces": arrays["F"]},
    )
    assert labels_of(path) == {"energy": ("extensive", "kcal/mol"), "forces": ("forces", "kcal/mol/Å")}
    entry = next(read_file(path, ReadOptions(targets=(Label("energies", "kJ/mol", "extensive"),))))
    assert np.allclose(entry.structure.labels["energies"], 4.184 * arrays["E"][0])


def test_ragged(tmp_path):
    extras = {
        "smiles": np.array(["O", "[C-]#[O+]"]),
        "gdb_index": np.array([3, 21]),
        "charge": np.array([0, 1]),
        "spin": np.array([1, 2]),
        "dipole": np.array([[1.0, 2, 3], [4, 5, 6]]),
        "dipole_unit": "e·a0",
        "polarizability": np.ones((2, 9)),
        "charges": np.arange(5.0),
        "forces": np.arange(15.0).reshape(5, 3),
        "weight": np.array([7.0, 8.0]),
        "comment": np.array(["a", "b"]),
        "matrix": np.ones((2, 7, 7)),
    }
    path = save(tmp_path, ragged(**extras))
    first, second = read_file(path)
    assert (first.name, second.name) == ("gdb 3", "gdb 21")
    assert (second.structure.formula, second.structure.smiles) == ("CO", "[C-]#[O+]")
    assert (second.structure.charge, second.structure.spin, second.structure.group) == (1, 2, 21)
    assert np.isnan(first.structure.labels["r2"])
    assert second.structure.labels["gap"] == 3.0
    assert np.allclose(second.structure.labels["dipole"], [4, 5, 6])
    assert second.structure.labels["polarizability"].shape == (3, 3)
    assert np.allclose(second.structure.labels["charges"], [3, 4])
    assert np.allclose(second.structure.labels["forces"], [[9, 10, 11], [12, 13, 14]])
    assert labels_of(path) == {
        "gap": ("intensive", "eV"),
        "r2": ("extensive", "a0^2"),
        "dipole": ("vector", "e·a0"),
        "polarizability": ("tensor", "a0^3"),
        "charges": ("charges", "e"),
        "forces": ("forces", "eV/Å"),
        "weight": ("intensive", ""),
    }


def test_targets_are_converted_from_the_unit_of_the_file(tmp_path):
    path = save(tmp_path, ragged())
    entries = list(read_file(path, ReadOptions(targets=(Label("gap", "Ha", "intensive"),))))
    assert [set(entry.structure.labels) for entry in entries] == [{"gap"}, {"gap"}]
    assert np.isclose(entries[1].structure.labels["gap"], 3.0 / HARTREE)


def test_an_archive_in_gzip(tmp_path):
    path = save(tmp_path, ragged())
    packed = tmp_path / "set.npz.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [entry.structure.formula for entry in read_file(packed)] == ["H2O", "CO"]


def test_a_bad_row_is_its_own_error(tmp_path):
    pos = ragged()["positions"]
    pos[1, 2] = np.nan
    bad, good = read_file(save(tmp_path, ragged(positions=pos)))
    assert "molecule 1: the position of atom 2 is not a finite number" in str(bad.error)
    assert good.structure is not None
    empty, _ = read_file(save(tmp_path, ragged(offsets=np.array([0, 0, 5]))))
    assert "the molecule has no atoms" in str(empty.error)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (ragged(offsets=np.array([0, 3, 6])), "offsets must begin with 0, never fall and end with 5"),
        (ragged(offsets=np.array([0, 4, 3, 5])), "offsets must begin with 0"),
        (ragged(offsets=np.array([1, 3, 5])), "offsets must begin with 0"),
        (ragged(offsets=np.array([0.0, 3, 5])), "array 'offsets' is not one of"),
        (ragged(numbers=np.array([8, 1, 1, 6])), r"'numbers' has shape \(4,\), expected \(5\)"),
        (ragged(positions=np.ones((5, 2))), r"'positions' has shape \(5, 2\)"),
        (ragged(positions=np.ones((5, 3), object)), "'positions' holds Python objects, which are never unpickled"),
        (ragged(targets=np.ones((3, 2))), r"'targets' has shape \(3, 2\)"),
        (ragged(target_names=None), "has no array 'target_names'"),
        (ragged(target_names=np.array(["gap", "r2"], object)), "'target_names' holds Python objects"),
        (ragged(target_names=np.array(["gap"])), r"'target_names' has shape \(1,\)"),
        (ragged(target_units=np.array(["eV", "furlong"])), "unknown unit 'furlong'"),
        (ragged(smiles=np.array(["O"])), r"'smiles' has shape \(1,\)"),
        (ragged(energy=np.array([1, None], object)), "'energy' holds Python objects"),
        (trajectory(z=np.array([8, 1])), r"'z' has shape \(2,\), expected \(3\)"),
        (trajectory(E=np.ones(3)), r"'E' has shape \(3,\), expected \(4\)"),
        (trajectory(F=np.ones((4, 2, 3))), r"'F' has shape \(4, 2, 3\)"),
        (trajectory(R=np.ones((4, 9))), r"expected \(frames, atoms, 3\)"),
        (trajectory(R=np.ones((0, 3, 3)), E=np.ones(0), F=None), "holds no molecule"),
        (trajectory(e_unit="furlong"), "unknown unit 'furlong"),
        ({"a": np.ones(3)}, "a"),
    ],
)
def test_a_file_that_does_not_fit_together_is_one_clear_error(tmp_path, arrays, message):
    (entry,) = read_file(save(tmp_path, arrays))
    with pytest.raises(MolformerError, match=message):
        raise entry.error
    assert "set.npz" in str(entry.error) or "unit" in str(entry.error)
    assert "\n" not in str(entry.error)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Label("homo", "eV", "intensive"), "has no label 'homo'; its labels: gap, r2"),
        (Label("gap", "eV", "vector"), r"value of shape \(\) for each molecule, which kind 'vector' is not"),
        (Label("gap", "eV", "atom"), "for each molecule"),
        (Label("gap", "D", "intensive"), "cannot convert 'eV'"),
    ],
)
def test_a_target_that_the_file_does_not_have(tmp_path, target, message):
    (entry,) = read_file(save(tmp_path, ragged()), ReadOptions(targets=(target,)))
    with pytest.raises(MolformerError, match=message):
        raise entry.error


def test_damaged_files(tmp_path):
    content = save(tmp_path, ragged(positions=np.random.default_rng(0).normal(size=(5, 3)))).read_bytes()
    path = tmp_path / "bad.npz"
    for wrong in (b"", b"hello", content[: len(content) // 2], content[:-30]):
        path.write_bytes(wrong)
        (entry,) = read_file(path)
        assert entry.structure is None
        assert "bad.npz" in str(entry.error)
        assert "\n" not in str(entry.error)
        assert format_of(path).labels(path, ReadOptions()) == []
    flipped = bytearray(content)
    flipped[content.index(b"positions.npy") + 200] ^= 255  # a byte of the array itself; the archive knows its checksum
    path.write_bytes(flipped)
    (entry,) = read_file(path)
    assert "'positions' is damaged" in str(entry.error)


def test_a_file_too_large(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, **ragged(filler=np.zeros(100_000)))
    (entry,) = read_file(path, ReadOptions(max_bytes=100_000))
    assert "larger than allowed" in str(entry.error)


def test_other_arrays_are_clouds(tmp_path):
    points = pytest.importorskip("molformer.data.readers.points")
    path = save(tmp_path, {"points": np.random.default_rng(0).normal(size=(2, 5, 3))})
    ours = [entry.structure.pos.tolist() for entry in read_file(path)]
    assert ours == [entry.structure.pos.tolist() for entry in points.FORMAT.read(path, ReadOptions())]
    assert len(ours) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_any_molecules_survive_a_round_trip(tmp_path_factory, sizes, seed):
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    arrays = {
        "positions": rng.normal(size=(total, 3)),
        "numbers": rng.integers(1, 119, size=total),
        "offsets": np.cumsum([0, *sizes]),
        "gap": rng.normal(size=len(sizes)),
        "shift": rng.normal(size=(total,)) if total != len(sizes) else None,
    }
    path = save(tmp_path_factory.mktemp("npz"), {name: value for name, value in arrays.items() if value is not None})
    entries = list(read_file(path))
    assert [len(entry.structure) for entry in entries] == sizes
    assert np.array_equal(np.concatenate([entry.structure.pos for entry in entries]), arrays["positions"])
    assert np.array_equal(np.concatenate([entry.structure.numbers for entry in entries]), arrays["numbers"])
    assert np.array_equal([entry.structure.labels["gap"] for entry in entries], arrays["gap"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_gives_entries_and_never_another_exception(tmp_path_factory, place, bits):
    path = save(tmp_path_factory.mktemp("npz"), ragged())
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= bits
    path.write_bytes(content)
    for entry in read_file(path):
        assert (entry.structure is None) == isinstance(entry.error, MolformerError)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the repository")
def test_real_files():
    entries = list(read_file(DATA / "md17_ethanol_ccsdt.npz"))
    assert len(entries) == 1000
    assert entries[0].structure.formula == "C2H6O"
    assert -4300 < entries[0].structure.labels["energy"] < -4100
    targets = (Label("dipole", "e·a0", "vector"), Label("charges", "e", "charges"), Label("energy", "Ha", "extensive"))
    water = next(read_file(DATA / "qm9_mp2_dipoles.npz", ReadOptions(targets=targets))).structure
    assert water.formula == "H2O"
    # The dipole of water is about that of its charges, in direction above all.
    classical = water.labels["charges"] @ water.pos
    cosine = classical @ water.labels["dipole"] / np.linalg.norm(classical) / np.linalg.norm(water.labels["dipole"])
    assert cosine > 0.99


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the repository")
def test_the_whole_of_qm9():
    count = sum(entry.error is None for entry in read_file(DATA / "qm9.npz"))
    assert count == 120_744
