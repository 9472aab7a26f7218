"""What a file declares is compared with what it has, before memory is taken for it."""

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from molformer.data.readers import read_file
from molformer.data.readers.files import MAX_LINE

MOST = 64 * 2**20  # bytes that Python and numpy may take for one small file


def npy(shape, content=b""):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def npz(arrays):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def pcd(count, points, kind):
    head = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 {count}\nPOINTS {points}\nDATA {kind}\n"
    return (head + "0 0 0\n").encode()


def ply(elements):
    return f"ply\nformat binary_little_endian 1.0\n{elements}property float x\nend_header\n0 0 0\n".encode()


FILES = {
    "one.npy": npy((10**11, 3)),
    "huge.npy": npy((10**30, 3)),
    "cloud.npz": npz({"points": npy((10**11, 3))}),
    "md17.npz": npz({"R": npy((10**10, 3, 3)), "z": npy((3,), bytes(24))}),
    "ragged.npz": npz({"positions": npy((10**11, 3)), "numbers": npy((10**11,)), "offsets": npy((2,), bytes(16))}),
    "count.pcd": pcd(500_000_000, 1, "ascii"),
    "points.pcd": pcd(1, 10**12, "binary"),
    "vertices.ply": ply("element vertex 900000000\n"),
    "faces.ply": ply("element vertex 1\nelement  face 90000000000\n"),
    "columns.xyz": b"1\nProperties=species:S:1:pos:R:3:x:R:300000000\nH 0 0 0\n",
    "atoms.xyz": b"900000000000\n\nH 0 0 0\n",
    "POSCAR": b"x\n1\n9 0 0\n0 9 0\n0 0 9\nH\n900000000000\nDirect\n0 0 0\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_small_file_that_says_it_is_large(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    tracemalloc.start()
    try:
        (entry,) = read_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert entry.error is not None
    assert "\n" not in str(entry.error)
    assert peak < MOST


def test_an_array_of_hdf5_that_is_not_stored(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "spice.h5", "w") as file:
        file["m/atomic_numbers"] = np.array([8, 1, 1])
        file.create_dataset("m/conformations", shape=(10**9, 3, 3), dtype="f8", chunks=(1000, 3, 3))
    with h5py.File(tmp_path / "cloud.h5", "w") as file:
        file.create_dataset("points", shape=(10**8, 3), dtype="f8", chunks=(1000, 3))
    for name in ("spice.h5", "cloud.h5"):
        (entry,) = read_file(tmp_path / name)
        assert "is said to have" in str(entry.error)


def test_packed_zeros_are_no_lie(tmp_path):
    h5py = pytest.importorskip("h5py")
    arrays = {"R": np.zeros((10_000, 3, 3)), "z": np.array([8, 1, 1]), "E": np.zeros(10_000)}
    np.savez_compressed(tmp_path / "zeros.npz", **arrays)
    assert len(list(read_file(tmp_path / "zeros.npz"))) == 10_000
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        file["m/atomic_numbers"] = np.array([8, 1, 1])
        file.create_dataset("m/conformations", data=np.zeros((10_000, 3, 3)), compression="gzip", compression_opts=9)
    assert len(list(read_file(tmp_path / "zeros.h5"))) == 10_000


@pytest.mark.parametrize("name", ["a.smi", "a.xyz", "a.csv", "a.sdf", "a.cif", "a.pts"])
def test_a_packed_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, name):
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(2 * MAX_LINE >> 20):
            file.write(b"1" * 2**20)
    (entry,) = read_file(path)
    assert any(words in str(entry.error) for words in ("line of more than", "record of more than", "larger than"))


def test_line_ends_of_any_kind_count(tmp_path, monkeypatch):
    monkeypatch.setattr("molformer.data.readers.files.MAX_LINE", 3000)
    for end in ("\n", "\r", "\r\n"):
        (tmp_path / "a.smi").write_bytes(f"CCO{end}".encode() * 2000)
        assert len(list(read_file(tmp_path / "a.smi"))) == 2000
