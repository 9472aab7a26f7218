import numpy as np
from scipy.io import savemat

from molformer.data import datasets
from molformer.units import BOHR


def write(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "Z": np.array([[6, 1, 1, 1, 1], [8, 1, 1, 0, 0]], np.float32),
        "R": rng.normal(size=(2, 5, 3)),
        "T": np.array([[-417.9, -219.0]]),
        "X": np.zeros((2, 5, 5)),
        **changes,
    }
    savemat(path, {name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_molecules_without_their_padding(tmp_path):
    arrays = write(tmp_path / "qm7.mat")
    methane, water = datasets.read("qm7", tmp_path / "qm7.mat")
    assert [methane.structure.formula, water.structure.formula] == ["CH4", "H2O"]
    assert np.allclose(water.structure.pos, BOHR * arrays["R"][1, :3])
    assert float(water.structure.labels["atomization_energy"]) == -219.0


def test_malformed_files_are_one_clear_error(tmp_path):
    path = tmp_path / "qm7.mat"
    write(path)
    content = path.read_bytes()
    cases = [b"hello" * 100, content[:300]]
    for changes in ({"T": None}, {"R": np.zeros((2, 4, 3))}, {"T": np.zeros((1, 3))}):
        write(path, **changes)
        cases.append(path.read_bytes())
    for case in cases:
        path.write_bytes(case)
        (entry,) = datasets.read("qm7", path)
        assert "qm7.mat' is not the file of QM7" in str(entry.error)
        assert "\n" not in str(entry.error)
    path.write_bytes(b"")
    (entry,) = datasets.read("qm7", path)
    assert "is empty" in str(entry.error)
    path.unlink()
    (entry,) = datasets.read("qm7", path)
    assert "cannot read" in str(entry.error)
