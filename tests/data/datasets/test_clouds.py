import io
import zipfile

import numpy as np
import pytest

from molformer.data import datasets

h5py = pytest.importorskip("h5py")

SQUARE = "4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n"


def hdf5(labels, points=6):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(len(labels), points, 3)).astype(np.float32)
        file["label"] = np.array(labels)
    return content.getvalue()


def archive(path, files):
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def test_modelnet40(tmp_path):
    path = archive(
        tmp_path / "set.zip",
        {
            "modelnet40_ply_hdf5_2048/ply_data_train0.h5": hdf5([[0], [39]]),
            "modelnet40_ply_hdf5_2048/ply_data_test0.h5": hdf5([[7]]),
            "modelnet40_ply_hdf5_2048/shape_names.txt": "airplane\n",
        },
    )
    entries = list(datasets.read("modelnet40", path))
    assert [entry.name for entry in entries] == ["train/airplane/1", "train/xbox/2", "test/car/1"]
    assert [float(entry.structure.labels["class"]) for entry in entries] == [0, 39, 7]
    assert entries[0].structure.numbers.tolist() == [0] * 6


def test_scanobjectnn_is_its_hardest_variant(tmp_path):
    folder = "h5_files/main_split"
    path = archive(
        tmp_path / "set.zip",
        {
            f"{folder}/training_objectdataset_augmentedrot_scale75.h5": hdf5([14]),
            f"{folder}/test_objectdataset_augmentedrot_scale75.h5": hdf5([3, 15]),
            f"{folder}/training_objectdataset.h5": hdf5([0]),
            f"{folder}_nobg/training_objectdataset_augmentedrot_scale75.h5": hdf5([0]),
        },
    )
    entries = list(datasets.read("scanobjectnn", path))
    assert [entry.name for entry in entries] == ["train/toilet/1", "test/cabinet/1", "test/2"]
    assert "class 15 is not one of 15" in str(entries[-1].error)


def test_modelnet10_is_unpacked_once(tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    path = archive(
        tmp_path / "ModelNet10.zip",
        {
            "ModelNet10/bed/train/bed_0001.off": "OFF\n" + SQUARE,
            "ModelNet10/chair/test/chair_0001.off": "OFF" + SQUARE,
            "__MACOSX/ModelNet10/._bed": "",
        },
    )
    for _ in range(2):
        entries = list(datasets.read("modelnet10", path))
        assert [entry.name for entry in entries] == ["bed/train/bed_0001.off", "chair/test/chair_0001.off"]
        path.write_bytes(b"")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ModelNet10", "ModelNet10.zip"]


@pytest.mark.parametrize("name", ["modelnet10", "modelnet40", "scanobjectnn"])
def test_damaged_archives(tmp_path, name):
    path = tmp_path / "set.zip"
    cases = [b"", b"hello"]
    archive(path, {"other/file.txt": "x" * 1000})
    cases += [path.read_bytes(), path.read_bytes()[:400]]
    for case in cases:
        path.write_bytes(case)
        (entry,) = datasets.read(name, path)
        assert "set.zip" in str(entry.error)
        assert "\n" not in str(entry.error)


def test_arrays_that_do_not_fit(tmp_path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["data"] = np.zeros((2, 6, 3))
        file["label"] = np.zeros(3)
    path = archive(tmp_path / "set.zip", {"a/ply_data_test0.h5": content.getvalue()})
    (entry,) = datasets.read("modelnet40", path)
    assert "do not fit" in str(entry.error)
