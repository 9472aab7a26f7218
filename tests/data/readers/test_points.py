import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molformer.data.readers import ReadOptions, read_file
from molformer.data.readers.meshes import sample_surface
from molformer.data.readers.points import FORMAT
from molformer.data.structure import Label
from molformer.errors import InputError, MolformerError

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
h5py = pytest.importorskip("h5py", reason="h5py is not installed")

MODELNET = Path(__file__).parents[4] / "shared" / "data" / "modelnet10_voxels_train.npz"
POS = np.array([[0.0, 1.5, -2.0], [1.0, 0.0, 0.25], [3.0, -1.0, 0.5], [-4.0, 2.0, 1.0]])
NORMALS = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]])
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 153]])


def read(path, **options):
    return list(FORMAT.read(path, ReadOptions(**options)))


def structure(path, **options):
    (entry,) = read(path, **options)
    assert entry.error is None, entry.error
    assert (entry.structure.numbers == 0).all()
    return entry.structure


def error(path, **options):
    (entry,) = read(path, **options)
    assert entry.structure is None
    assert str(path) in str(entry.error)
    assert "\n" not in str(entry.error)
    return str(entry.error)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def ply(binary=False, pos=POS):
    kind = "binary_little_endian" if binary else "ascii"
    names = [f"float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")] + [
        f"uchar {c}" for c in ("red", "green", "blue")
    ]
    header = [
        f"ply\nformat {kind} 1.0\nelement vertex {len(pos)}",
        *(f"property {name}" for name in names),
        "end_header\n",
    ]
    rows = zip(pos.tolist(), NORMALS.tolist(), COLOURS.tolist(), strict=True)
    if not binary:
        return "\n".join(header) + "".join(" ".join(map(str, [*p, *n, *c])) + "\n" for p, n, c in rows)
    record = np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("c", "u1", 3)])
    return "\n".join(header).encode() + np.array(list(map(tuple, rows)), dtype=record).tobytes()


def pcd(kind="ascii", points=4, fields="x y z normal_x normal_y normal_z rgb", pos=POS):
    packed = (COLOURS @ [1 << 16, 1 << 8, 1]).astype(np.uint32)
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE 4 4 4 4 4 4 4\nTYPE F F F F F F U\nCOUNT 1 1 1 1 1 1 1\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {kind}\n"
    )
    rows = zip(pos.tolist(), NORMALS.tolist(), packed.tolist(), strict=True)
    if kind == "ascii":
        return header + "".join(" ".join(map(str, [*p, *n, c])) + "\n" for p, n, c in rows)
    record = np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("c", "<u4")])
    return header.encode() + np.array(list(map(tuple, rows)), dtype=record).tobytes()


def mesh(kind):
    """A box of edge 2 around the origin, of 12 triangles."""
    content = trimesh.creation.box((2, 2, 2)).export(file_type=kind)
    return content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", ply()),
        ("b.ply", ply(binary=True)),
        ("a.pcd", pcd()),
        ("b.pcd", pcd("binary")),
        ("c.pcd", pcd("binary", 4) + b"\n"),
    ],
)
def test_clouds_come_with_normals_and_colours(tmp_path, name, content):
    cloud = structure(write(tmp_path / name, content))
    assert np.array_equal(cloud.pos, POS)
    assert np.allclose(cloud.features, np.concatenate([NORMALS, COLOURS / 255], axis=1))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.off", "OFF\n4 0 0\n" + "\n".join(" ".join(map(str, row)) for row in POS.tolist())),
        ("a.obj", "# cloud\n" + "\n".join("v " + " ".join(map(str, row)) for row in POS.tolist()) + "\n"),
        ("a.pts", "4\n" + "\n".join(" ".join(map(str, row)) for row in POS.tolist())),
        ("a.xyzn", "\n".join(",".join(map(str, row)) for row in POS.tolist()) + "\n\n"),
    ],
)
def test_clouds_of_positions_alone(tmp_path, name, content):
    cloud = structure(write(tmp_path / name, content))
    assert np.array_equal(cloud.pos, POS)
    assert cloud.features is None


@pytest.mark.parametrize("kind", ["ply", "off", "obj", "stl", "stl_ascii"])
def test_a_mesh_becomes_points_on_its_surface(tmp_path, kind):
    path = write(tmp_path / f"box.{kind[:3]}", mesh(kind))
    cloud = structure(path, points=600)
    assert cloud.pos.shape == (600, 3)
    assert np.allclose(np.abs(cloud.pos).max(axis=1), 1)
    assert np.array_equal(structure(path, points=600).pos, cloud.pos)
    assert not np.array_equal(structure(path, points=600, seed=1).pos, cloud.pos)
    assert len(structure(path)) == 1024


def test_the_first_line_of_modelnets_off_files(tmp_path):
    path = write(tmp_path / "box.off", mesh("off").replace(b"OFF\n", b"OFF"))
    assert np.allclose(np.abs(structure(path).pos).max(axis=1), 1)


def test_points_are_drawn_by_area_and_evenly_inside_a_triangle():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 9], [3, 0, 9], [0, 3, 9]])
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 0, 1]])
    points = sample_surface(vertices, faces, 20_000, np.random.default_rng(0))
    small = points[points[:, 2] == 0]
    assert len(small) / 20_000 == pytest.approx(0.1, abs=0.01)
    large = points[points[:, 2] == 9] - [0, 0, 9]
    assert (large.sum(axis=1) <= 3).all()
    assert (large >= 0).all()
    assert np.allclose(large.mean(axis=0), [1, 1, 0], atol=0.03)
    assert (large[:, :2].max(axis=1) < 1.5).mean() == pytest.approx(0.5, abs=0.015)


def test_npy_and_gzip(tmp_path):
    np.save(tmp_path / "a.npy", np.concatenate([POS, NORMALS], axis=1).astype(np.float32))
    cloud = structure(tmp_path / "a.npy")
    assert np.array_equal(cloud.pos, POS)
    assert np.array_equal(cloud.features, NORMALS)
    packed = write(tmp_path / "a.npy.gz", gzip.compress((tmp_path / "a.npy").read_bytes()))
    assert np.array_equal(structure(packed).pos, POS)
    assert np.array_equal(structure(write(tmp_path / "a.ply.gz", gzip.compress(ply().encode()))).pos, POS)


SAVERS = {"npz": np.savez_compressed, "h5": lambda path, **arrays: save_hdf5(path, arrays)}


def save_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            values = np.asarray(values)
            file[name] = values.astype(bytes) if values.dtype.kind == "U" else values


@pytest.fixture(params=SAVERS)
def save(request, tmp_path):
    def run(**arrays):
        path = tmp_path / f"set.{request.param}"
        SAVERS[request.param](path, **arrays)
        return path

    return run


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_clouds_of_one_size_with_classes(save, kind):
    data = np.stack([POS, 2 * POS, 3 * POS])
    path = save(data=data, label=np.array([[1], [0], [1]], dtype=kind), normal=np.stack([NORMALS] * 3))
    (label,) = FORMAT.labels(path, ReadOptions())
    assert label == Label("class", "", "category", classes=("0", "1"))
    entries = read(path)
    assert [entry.structure.labels["class"] for entry in entries] == [1, 0, 1]
    assert entries[2].name == f"{path}, cloud 3"
    assert np.array_equal(entries[2].structure.pos, 3 * POS)
    assert np.array_equal(entries[2].structure.features, NORMALS)


def test_names_of_classes_and_further_labels(save):
    mask, size = np.array([[0, 0, -1, 1], [1, 1, 1, 1]]), np.array([0.5, 2.0])
    path = save(data=np.stack([POS, POS]), label=[1, 0], classes=["bed", "chair"], mask=mask, size=size)
    assert FORMAT.labels(path, ReadOptions())[0].classes == ("bed", "chair")
    kinds = (Label("mask", "", "atom"), Label("size", "", "intensive"))
    # The order of the classes asked for is the order of their indices.
    entries = read(path, targets=(Label("class", "", "category", classes=("chair", "bed")), *kinds))
    assert [entry.structure.labels["class"] for entry in entries] == [0, 1]
    assert entries[0].structure.labels["mask"].tolist() == [0, 0, -1, 1]
    assert entries[1].structure.labels["size"] == 2.0
    first, second = read(path, targets=(Label("class", "", "category", classes=("bed",)),))
    assert "class 'chair' is not one of bed" in str(first.error)
    assert second.error is None
    assert "there is no array 'volume'" in error(path, targets=(Label("volume", "", "intensive"),))


def test_classes_by_name_and_from_the_file_beside(save):
    path = save(points=np.stack([POS, POS]), label=["sofa", "bed"])
    assert [entry.structure.labels["class"] for entry in read(path)] == [1, 0]
    path = save(points=np.stack([POS, POS]), label=[1, 0])
    (path.parent / "shape_names.txt").write_text("airplane\nbathtub\n")
    assert FORMAT.labels(path, ReadOptions())[0].classes == ("airplane", "bathtub")


def test_one_cloud_and_clouds_of_any_size(save):
    cloud = structure(save(pos=POS, colors=COLOURS))
    assert np.array_equal(cloud.features, COLOURS)
    assert cloud.labels == {}
    first, second, third = read(save(points=POS, offsets=[0, 1, 1, 4]))
    assert first.structure.pos.tolist() == POS[:1].tolist()
    assert "cloud has no points" in str(second.error)
    assert third.structure.pos.tolist() == POS[1:].tolist()


def test_voxels(save):
    grid = np.zeros((2, 3, 3, 3), dtype=np.uint8)
    grid[0, 0, 1, 2] = grid[1, 1, 1, 1] = grid[1, 2, 2, 2] = 1
    for arrays in ({"voxels": grid}, {"voxels_packed": np.packbits(grid.reshape(2, -1), axis=1), "grid": [3, 3, 3]}):
        first, second = read(save(**arrays))
        assert first.structure.pos.tolist() == [[-1, 0, 1]]
        assert second.structure.pos.tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": POS}, "no array is a cloud"),
        ({"data": POS[0]}, "do not fit each other"),
        ({"data": POS[:, :2]}, "use numbers (n, 3+F)"),
        ({"data": POS, "normal": NORMALS[:3]}, "shapes (4, 3), (3, 3) do not fit each other"),
        ({"data": POS[None], "label": [0, 1]}, "2 labels for 1 clouds"),
        ({"data": POS[None], "label": [3], "classes": ["a"]}, "cloud 1 has class 3, there are 1 classes"),
        ({"data": POS[None], "label": [-1]}, "cloud 1 has class -1"),
        ({"data": POS[None], "label": [10**12]}, "class 1000000000000 has no name"),
        ({"data": POS[None], "label": [0.5]}, "must be whole numbers or names"),
        ({"data": POS[None], "label": [np.nan]}, "must be whole numbers or names"),
        ({"points": POS, "ptr": [0, 5]}, "must ascend from 0 to 4"),
        ({"points": POS, "ptr": [0, 3, 2, 4]}, "must ascend from 0 to 4"),
        ({"voxels_packed": np.zeros((2, 3), np.uint8), "grid": [3, 3, 3]}, "3 bytes do not hold a grid"),
        ({"voxels": np.zeros((3, 3, 3))}, "are not grids"),
    ],
)
def test_arrays_that_do_not_fit(save, arrays, message):
    assert message in error(save(**arrays))


def test_damaged_and_oversized_archives(save):
    path = save(data=np.random.default_rng(0).normal(size=(4, 50, 3)))
    assert "max_bytes" in error(path, max_bytes=1000)
    content = path.read_bytes()
    for part in (content[: len(content) // 2], content[:20], content[20:], b"text"):
        message = error(write(path, part))
        assert "is not a complete" in message or "is damaged" in message
    assert "is empty" in error(write(path, b""))


NAN, LAST = POS.copy(), slice(0, 3)
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ply", "", "is empty"),
        ("a.ply", "plx\n", "is not a complete PLY file"),
        ("a.ply", ply().rsplit("\n", 2)[0] + "\n", "it should have 4 lines of vertices and faces, not 3"),
        ("a.ply", ply(binary=True)[:-1], "is not a complete PLY file"),
        ("a.ply", ply(pos=NAN), "position of point 3 has a number that is not finite"),
        ("a.ply", ply().replace("0.0 0.0 255", "0.0 nan 255"), "features of point 1 has a number"),
        ("a.ply", mesh("ply")[:-7], "is not a complete PLY file"),
        ("a.off", mesh("off")[:-30], "is cut short: it should have 20 lines of vertices and faces, not 1"),
        ("a.off", mesh("off")[:60], "is not a complete OFF file"),
        ("a.off", "nothing", "is not a complete OFF file"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n", "have no area"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 nan 1\n0 2 2\n3 0 1 2\n", "is not finite"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 1\n0 2 2\n3 0 1 3\n", "is not a complete OFF file"),
        ("a.off", "OFF\n0 0 0\n", "a.off"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "is not a complete OBJ file"),
        ("a.obj", "hello\n", "is not a"),
        ("a.stl", mesh("stl")[:-1], "is not a"),
        ("a.stl", mesh("stl")[:40], "is not a"),
        ("a.stl", mesh("stl_ascii")[:-100], "is not a"),
        ("a.stl", mesh("stl_ascii").replace(b"vertex", b"verteks", 1), "is not a"),
        ("a.pcd", "x y z\n", "has no line DATA"),
        ("a.pcd", pcd(points=5), "it says 5 points, there are 4"),
        ("a.pcd", pcd(points=3), "it says 3 points, there are 4"),
        ("a.pcd", pcd("binary", points=5), "it says 5 points, there are 4"),
        ("a.pcd", pcd("binary_compressed"), "pcl_convert_pcd_ascii_binary"),
        ("a.pcd", pcd(pos=NAN), "position of point 3"),
        ("a.pcd", pcd(fields="x y w normal_x normal_y normal_z rgb"), "a.pcd"),
        ("a.pcd", pcd(fields="x y z"), "is not a complete PCD file"),
        ("a.pcd", pcd().replace("FIELDS", "FIELD"), "FIELDS"),
        ("a.pcd", pcd().replace("16711680", "-1"), "a value of field 'rgb' does not fit its type"),
        ("a.pcd", pcd().replace("1.5", "one"), "is not a complete PCD file"),
        ("a.pts", "3\n0 0 0\n1 1 1\n", "says 3 points, there are 2"),
        ("a.pts", "0 0 0\n1 1\n", "point 2 has 2 numbers"),
        ("a.pts", "0 0 0\n1 1 x\n", "could not convert"),
        ("a.pts", "\n", "no points"),
        ("a.pts", "0 0 0\n1 1 inf\n", "position of point 2"),
        ("a.npy", b"\x93NUMPY\x01\x00", "is not a complete NPY file"),
        ("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8', \n", "is not a complete NPY file"),
        ("a.npy", "text", "is not a complete NPY file"),
    ],
)
def test_malformed_files_are_one_clear_error(tmp_path, caplog, name, content, message):
    assert message in error(write(tmp_path / name, content))
    assert not caplog.records  # trimesh logs tracebacks


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (POS[:, :2], "use numbers (n, 3+F)"),
        (POS[0], "use numbers (n, 3+F)"),
        (POS[:0], "no points"),
        (NAN, "position of point 3"),
        (POS.astype(str), "use numbers (n, 3+F)"),
        (POS.astype(complex), "use numbers (n, 3+F)"),
    ],
)
def test_arrays_that_are_no_cloud(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    assert message in error(tmp_path / "a.npy")


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "is not a complete NPY file" in error(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", points=np.array([{}], dtype=object))
    assert "array 'points' holds Python objects, which are never unpickled" in error(tmp_path / "a.npz")


def test_a_tree_of_classes(tmp_path):
    for name in ("chair/train/chair_1.off", "chair/test/chair_2.off", "bed/train/bed_1.off"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, mesh("off"))
    write(tmp_path / "bed/train/bed_2.off", "OFF\n")
    write(tmp_path / "bed/points.txt", "0,0,0,1,0,0\n1,1,1,0,1,0\n")
    write(tmp_path / "README.txt", "how it was made")
    write(tmp_path / "chair/.hidden.off", "")
    assert FORMAT.labels(tmp_path, ReadOptions())[0].classes == ("bed", "chair")
    entries = list(read_file(tmp_path, ReadOptions(points=7)))
    assert [entry.name for entry in entries] == [
        "bed/points.txt",
        "bed/train/bed_1.off",
        "bed/train/bed_2.off",
        "chair/test/chair_2.off",
        "chair/train/chair_1.off",
    ]
    assert "bed_2.off" in str(entries[2].error)
    good = [entry.structure for entry in entries if entry.structure]
    assert [cloud.labels["class"] for cloud in good] == [0, 0, 1, 1]
    assert [len(cloud) for cloud in good] == [2, 7, 7, 7]
    assert good[0].features.shape == (2, 3)


def test_a_tree_without_clouds_or_classes(tmp_path):
    assert "has no point clouds" in error(tmp_path)
    np.save(tmp_path / "a.npy", POS)
    assert FORMAT.labels(tmp_path, ReadOptions()) == []
    (entry,) = read(tmp_path)
    assert entry.name == "a.npy"
    assert entry.structure.labels == {}


@pytest.mark.parametrize("module", ["trimesh", "h5py"])
def test_without_the_package_the_command_is_named(tmp_path, monkeypatch, module):
    save_hdf5(tmp_path / "a.h5", {"data": POS})
    write(tmp_path / "a.ply", ply())
    monkeypatch.setitem(sys.modules, module, None)
    message = error(tmp_path / ("a.ply" if module == "trimesh" else "a.h5"))
    extra = "points" if module == "trimesh" else "hdf5"
    assert f"needs {module}: pip install 'molformer[{extra}]'" in message


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["ply", "off", "obj", "stl", "pcd", "npy", "npz", "h5", "pts"]),
    st.one_of(st.binary(max_size=200), st.text("0123456789. \nvf-OFFplyDATA", max_size=200).map(str.encode)),
    st.integers(0, 400),
)
def test_any_bytes_give_entries_and_never_another_exception(tmp_path_factory, suffix, noise, place):
    valid = {"ply": ply().encode(), "pcd": pcd().encode(), "off": mesh("off"), "obj": mesh("obj"), "stl": mesh("stl")}
    whole = valid.get(suffix, b"")
    path = write(tmp_path_factory.mktemp("bytes") / f"a.{suffix}", whole[:place] + noise + whole[place + len(noise) :])
    for entry in read(path, points=10):
        assert (entry.structure is None) == isinstance(entry.error, MolformerError)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 3), min_size=1, max_size=12),
    st.sampled_from(["ply", "off", "npy", "pts"]),
)
def test_any_cloud_survives_a_round_trip(tmp_path_factory, points, suffix):
    path = tmp_path_factory.mktemp("cloud") / f"a.{suffix}"
    pos = np.array(points)
    lines = "\n".join(" ".join(map(repr, row)) for row in pos.tolist()) + "\n"
    if suffix == "npy":
        np.save(path, pos)
    else:
        properties = "".join(f"property double {axis}\n" for axis in "xyz")
        header = f"ply\nformat ascii 1.0\nelement vertex {len(pos)}\n{properties}end_header\n"
        headers = {"ply": header, "off": f"OFF\n{len(pos)} 0 0\n", "pts": f"{len(pos)}\n"}
        write(path, headers[suffix] + lines)
    assert np.array_equal(structure(path).pos, pos)


def test_a_surface_without_area_is_refused():
    with pytest.raises(InputError, match="no area"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 5, np.random.default_rng(0))


@pytest.mark.skipif(not MODELNET.is_file(), reason="../shared/data is not there")
def test_the_voxels_of_modelnet():
    (label,) = FORMAT.labels(MODELNET, ReadOptions())
    assert label.classes[:2] == ("bathtub", "bed")
    with np.load(MODELNET) as arrays:
        packed, classes = arrays["voxels_packed"], arrays["label"]
    for row, entry in enumerate(FORMAT.read(MODELNET, ReadOptions())):
        if row % 500 == 0:
            grid = np.unpackbits(packed[row])[:27000].reshape(30, 30, 30)
            cells = (entry.structure.pos + 14.5).astype(int)
            assert len(cells) == grid.sum()
            assert grid[tuple(cells.T)].all()
            assert entry.structure.labels["class"] == classes[row]
    assert row == 3875
