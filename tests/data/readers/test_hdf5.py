import builtins

import numpy as np
import pytest

from molformer.data.readers import ReadOptions, format_of, read_file
from molformer.data.structure import Label
from molformer.errors import MolformerError
from molformer.units import BOHR, HARTREE

h5py = pytest.importorskip("h5py")


def molecule(numbers, frames, smiles, **changes):
    rng = np.random.default_rng(len(numbers))
    atoms = len(numbers)
    arrays = {
        "atomic_numbers": np.array(numbers, np.int16),
        "conformations": rng.normal(size=(frames, atoms, 3)).astype(np.float32),
        "dft_total_energy": rng.normal(size=frames),
        "dft_total_gradient": rng.normal(size=(frames, atoms, 3)),
        "mbis_charges": rng.normal(size=(frames, atoms, 1)),
        "scf_dipole": rng.normal(size=(frames, 3)),
        "smiles": [smiles],
        **changes,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def save(tmp_path, molecules, **attributes):
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w") as file:
        for name, arrays in molecules.items():
            for key, array in arrays.items():
                dataset = file.create_dataset(f"{name}/{key}", data=array)
                if key in attributes:
                    dataset.attrs["units"] = attributes[key]
    return path


def test_conformations_of_molecules(tmp_path):
    hydroxide, water = molecule([8, 1], 3, "[O-][H]"), molecule([8, 1, 1], 2, "[H]O[H]")
    path = save(tmp_path, {"hydroxide": hydroxide, "water": water})
    entries = list(read_file(path))
    assert [entry.name for entry in entries] == ["hydroxide"] * 3 + ["water"] * 2
    assert [entry.structure.group for entry in entries] == [0, 0, 0, 1, 1]
    assert [entry.structure.charge for entry in entries] == [-1, -1, -1, 0, 0]
    last = entries[-1].structure
    assert last.smiles == "[H]O[H]"
    assert np.allclose(last.pos, BOHR * water["conformations"][1])
    assert np.allclose(last.labels["energy"], water["dft_total_energy"][1])
    assert np.allclose(last.labels["forces"], -water["dft_total_gradient"][1])
    assert np.allclose(last.labels["charges"], water["mbis_charges"][1, :, 0])
    assert np.allclose(last.labels["dipole"], water["scf_dipole"][1])
    labels = {label.name: label.unit for label in format_of(path).labels(path, ReadOptions())}
    assert labels == {"energy": "Ha", "forces": "Ha/a0", "dipole": "e·a0", "charges": "e"}


def test_units_of_targets_and_of_attributes(tmp_path):
    arrays = molecule([8, 1], 1, "")
    path = save(tmp_path, {"a": arrays}, conformations="angstrom", dft_total_energy="kJ/mol")
    targets = (Label("energy", "kcal/mol", "extensive"), Label("forces", "eV/Å", "forces"))
    (entry,) = read_file(path, ReadOptions(targets=targets))
    assert np.allclose(entry.structure.pos, arrays["conformations"][0])
    assert np.allclose(entry.structure.labels["energy"], arrays["dft_total_energy"][0] / 4.184)
    assert np.allclose(entry.structure.labels["forces"], -arrays["dft_total_gradient"][0] * HARTREE / BOHR)


def test_what_one_molecule_lacks_is_missing(tmp_path):
    path = save(tmp_path, {"a": molecule([8, 1], 1, ""), "b": molecule([9, 1], 1, "", mbis_charges=None)})
    first, second = read_file(path)
    assert "charges" in first.structure.labels
    assert "charges" not in second.structure.labels


@pytest.mark.parametrize(
    ("changes", "target", "message"),
    [
        ({"conformations": np.ones((2, 3, 3))}, None, r"'conformations' is of type float64 and shape \(2, 3, 3\)"),
        ({"dft_total_energy": np.ones(3)}, None, r"'dft_total_energy' is of type float64 and shape \(3,\)"),
        ({"dft_total_gradient": np.ones((2, 9))}, None, "'dft_total_gradient'"),
        ({"conformations": np.full((2, 2, 3), np.nan)}, None, "position of atom 1 is not a finite number"),
        ({"atomic_numbers": np.array([1, 200])}, None, "atomic numbers must lie between"),
        ({}, Label("gap", "eV", "intensive"), "there is no label 'gap'; those of such a file: energy"),
        ({}, Label("energy", "eV", "intensive"), "is of kind 'extensive', not 'intensive'"),
        ({}, Label("energy", "D", "extensive"), "cannot convert 'Ha'"),
    ],
)
def test_a_molecule_that_does_not_fit_is_its_own_error(tmp_path, changes, target, message):
    path = save(tmp_path, {"bad": molecule([8, 1], 2, "", **changes), "good": molecule([8, 1], 2, "")})
    entries = list(read_file(path, ReadOptions(targets=(target,) if target else ())))
    with pytest.raises(MolformerError, match=message):
        raise entries[0].error
    assert "set.hdf5, bad" in str(entries[0].error)
    assert target or entries[-1].structure is not None


def test_damaged_files(tmp_path):
    content = save(tmp_path, {"a": molecule([8, 1], 20, "")}).read_bytes()
    path = tmp_path / "bad.h5"
    for wrong in (b"", b"hello", content[: len(content) // 2]):
        path.write_bytes(wrong)
        (entry,) = read_file(path)
        assert "bad.h5" in str(entry.error)
        assert "\n" not in str(entry.error)
        assert format_of(path).labels(path, ReadOptions()) == []


def test_other_files_are_clouds(tmp_path):
    points = pytest.importorskip("molformer.data.readers.points")
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(2, 5, 3))
    ours = [entry.structure.pos.tolist() for entry in read_file(path)]
    assert ours == [entry.structure.pos.tolist() for entry in points.FORMAT.read(path, ReadOptions())]


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = save(tmp_path, {"a": molecule([8, 1], 1, "")})
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (entry,) = read_file(path)
    assert "needs h5py: pip install 'molformer[hdf5]'" in str(entry.error)


@pytest.mark.parametrize("what", ["external link", "soft link", "raw file", "virtual"])
@pytest.mark.parametrize("cloud", [False, True])
def test_nothing_of_another_file_is_read(tmp_path, monkeypatch, what, cloud):
    secret, key = np.array([[[11.0, 12, 13], [21, 22, 23], [31, 32, 33]]]), "points" if cloud else "conformations"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = secret
    (tmp_path / "raw.bin").write_bytes(secret.tobytes())
    with h5py.File(tmp_path / "set.h5", "w") as file:
        group = file if cloud else file.create_group("m")
        if not cloud:
            group["atomic_numbers"] = np.array([8, 1, 1])
        if what == "external link":
            group[key] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
        elif what == "soft link":
            file["out"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
            group[key] = h5py.SoftLink("/out/secret")
        elif what == "raw file":
            external = [(str(tmp_path / "raw.bin"), 0, 72)]
            group.create_dataset(key, shape=secret.shape, dtype="f8", external=external)
        else:
            layout = h5py.VirtualLayout(shape=secret.shape, dtype="f8")
            layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", shape=secret.shape)
            group.create_virtual_dataset(key, layout)
    if what.endswith("link"):  # not even to see whether it is there
        monkeypatch.setattr("h5py.Group.__contains__", lambda *_: pytest.fail("follows links"))
    for entry in read_file(tmp_path / "set.h5"):
        assert "is a link to another place" in str(entry.error) or "are in another file" in str(entry.error)


def test_a_whole_group_behind_a_link_is_refused(tmp_path):
    save(tmp_path, {"water": molecule([8, 1, 1], 1, "O")})
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["m"] = h5py.ExternalLink(str(tmp_path / "set.hdf5"), "/water")
    (entry,) = read_file(tmp_path / "set.h5")
    assert "'m' is a link to another place" in str(entry.error)


def test_changed_bytes_give_entries_and_never_another_exception(tmp_path):
    path = save(tmp_path, {"a": molecule([8, 1, 1], 2, "O"), "b": molecule([8, 1], 1, "[OH-]")}, conformations="bohr")
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(content)
        for place in random.integers(0, min(len(content), 6000), random.integers(1, 6)):
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed)
        format_of(path).labels(path, ReadOptions())
        assert list(read_file(path))
