"""Data sets of point clouds: ModelNet10, ModelNet40 and ScanObjectNN.

The label is `class`; whether a cloud is of the training or the test part stands in the name of its entry.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molformer.data.datasets.dataset import DataSet, RemoteFile, read_by_suffix
from molformer.data.readers import Entry
from molformer.errors import InputError, extra
from molformer.structure import Structure
from molformer.targets import Label

_MODELNET10 = ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet")
# fmt: off
_MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup",
    "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop",
    "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa",
    "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)
_SCANOBJECTNN = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)
# fmt: on


def _read_meshes(path: Path, dataset: DataSet) -> Iterator[Entry]:
    """Points on the meshes of ModelNet10, which is unpacked beside its archive once."""
    root = path if path.is_dir() else path.with_name("ModelNet10")
    if not path.is_dir() and not root.is_dir():
        _unpack(path, root)
    yield from read_by_suffix(root, dataset)


def _unpack(path: Path, root: Path) -> None:
    part = root.with_name(root.name + ".part")
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(part, [name for name in archive.namelist() if name.startswith(f"{root.name}/")])
        (part / root.name).rename(root)
        part.rmdir()
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"'{path}' cannot be unpacked: {getattr(error, 'strerror', None) or error}") from None


def _read_arrays(path: Path, dataset: DataSet) -> Iterator[Entry]:
    """Clouds of the HDF5 files of an archive that hold `data` (n, p, 3) and `label` (n,) or (n, 1)."""
    with extra("hdf5", f"'{path}' needs h5py", InputError):
        import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if _part(name)]
            if not members:
                raise InputError(f"'{path}' holds none of the files of {dataset.name}")
            for member in members:
                with h5py.File(io.BytesIO(archive.read(member)), "r") as file:
                    yield from _clouds(file, dataset, f"{path}, {member}", _part(member))
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"'{path}' is not a whole archive: {reason}") from None


def _part(member: str) -> str:
    """`train` or `test`, or nothing where a file of an archive is not of the data set.

    Of ScanObjectNN's variants it is the one that results are reported on, PB_T50_RS with background.
    """
    name = member.rpartition("/")[2]
    if name.startswith("ply_data_") and name.endswith(".h5"):
        return "train" if "train" in name else "test"
    if member.endswith("main_split/training_objectdataset_augmentedrot_scale75.h5"):
        return "train"
    return "test" if member.endswith("main_split/test_objectdataset_augmentedrot_scale75.h5") else ""


def _clouds(file: Any, dataset: DataSet, where: str, part: str) -> Iterator[Entry]:
    pos, index = file["data"][()], np.ravel(file["label"][()])
    (label,) = dataset.labels
    if pos.ndim != 3 or pos.shape[2] != 3 or len(index) != len(pos):
        raise InputError(f"{where}: data {pos.shape} and label {index.shape} do not fit")
    for row in range(len(pos)):
        here = f"{where}, cloud {row + 1}"
        try:
            if not 0 <= index[row] < len(label.classes):
                raise InputError(f"{here}: class {index[row]} is not one of {len(label.classes)}")
            numbers = np.zeros(pos.shape[1], dtype=np.int64)
            structure = Structure(numbers, pos[row], name=here, labels={label.name: index[row]})
            yield Entry(f"{part}/{label.classes[int(index[row])]}/{row + 1}", where=here, structure=structure)
        except InputError as error:
            yield Entry(f"{part}/{row + 1}", where=here, error=error)


def _class(names: tuple[str, ...]) -> tuple[Label, ...]:
    return (Label("class", "", "category", classes=names),)


CLOUDS = (
    DataSet(
        name="modelnet10",
        title="4,899 meshes of furniture in 10 classes",
        files=(
            RemoteFile(
                "ModelNet10.zip",
                (
                    "https://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
                    "http://vision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
                ),
                473_402_300,
            ),
        ),
        labels=_class(_MODELNET10),
        licence="for academic research; the models belong to their authors",
        citation="Wu et al. 2015, arXiv 1406.5670",
        reader=_read_meshes,
    ),
    DataSet(
        name="modelnet40",
        title="12,308 objects of 40 classes, 2,048 points each, in the unit sphere (the official set has three more)",
        files=(
            RemoteFile(
                "modelnet40_ply_hdf5_2048.zip",
                ("https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",),
                md5="c9ab8e6dfb16f67afdab25e155c79e59",
            ),
        ),
        labels=_class(_MODELNET40),
        licence="for academic research; the models belong to their authors",
        citation="Wu et al. 2015, arXiv 1406.5670; points of Qi et al. 2017, arXiv 1612.00593",
        reader=_read_arrays,
    ),
    DataSet(
        name="scanobjectnn",
        title="14,298 scanned objects of 15 classes, 2,048 points each with background: the variant PB_T50_RS",
        files=(
            RemoteFile(
                "h5_files.zip",
                ("https://hkust-vgd.ust.hk/scanobjectnn/h5_files.zip",),
                13_099_259_542,
                md5="36876af479f9ad39abad5ebcd89038dd",
            ),
        ),
        labels=_class(_SCANOBJECTNN),
        licence="for research, after agreeing to the terms at https://hkust-vgd.github.io/scanobjectnn",
        citation="Uy et al. 2019, arXiv 1908.04616",
        reader=_read_arrays,
    ),
)
