"""Many clouds in the arrays of one NPZ or HDF5 file.

Layouts, by the names of the arrays:

- `points`, `pos`, `data`, …: one cloud (p, 3+F), n clouds of one size (n, p, 3+F), or clouds of any size one after
  another (Σp, 3+F) with `ptr` or `offsets` (n+1,). ModelNet40 and ScanObjectNN in HDF5 are of this form.
- `voxels_packed` (n, bytes), the bits of n occupancy grids of shape `grid`, or `voxels` (n, I, J, K): ModelNet10.

`label` or `y` (n,) are classes, by index or name, named by `classes`, or by a file `shape_names.txt` beside it. Any
other array is a label if it is asked for by its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from molformer.data.readers.archive import open_archive
from molformer.data.readers.cloud import CLASS, Cloud, table_cloud
from molformer.data.readers.entry import ReadOptions
from molformer.data.readers.files import suffix_of
from molformer.data.readers.hdf5_members import member, open_hdf5
from molformer.data.sampling import voxel_to_points
from molformer.errors import InputError

_POINTS = ("points", "pos", "positions", "xyz", "coords", "data")
_FEATURES = ("normal", "normals", "color", "colors", "rgb", "features")
_CLASSES = ("label", "labels", "y", "class")
_CLASS_NAMES = ("classes", "class_names", "label_names", "shape_names")
_PTR = ("ptr", "offsets")
_MOST_CLASSES = 10_000


def load(path: Path, options: ReadOptions) -> Iterator[Cloud]:
    """Clouds of a file, in its order.

    Raises:
        InputError: the file is damaged, has no array that is a cloud, or arrays that do not fit each other.
    """
    wanted = tuple(target.name for target in options.targets)
    arrays = named_arrays(
        path, options.max_bytes, (*_POINTS, *_FEATURES, *_CLASSES, *_PTR, "voxels", "voxels_packed", "grid", *wanted)
    )
    names = class_names(path, options)
    classes = _labels(arrays, path)
    try:
        voxels = "voxels" in arrays or "voxels_packed" in arrays
        count, clouds = _voxels(arrays) if voxels else _tables(arrays)
        class_of = _classes_of(classes, names, count)
        others = {name: arrays[name] for name in wanted if name != CLASS and name in arrays}
        for name in wanted:
            if name != CLASS and (name not in arrays or arrays[name].shape[:1] != (count,)):
                raise InputError(f"there is no array '{name}' with a row for each of the {count} clouds")
        for i, cloud in enumerate(clouds):
            labels = {name: values[i] for name, values in others.items()}
            yield Cloud(cloud.pos, cloud.features, class_of[i], labels)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None


def class_names(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Names of the classes of a file; their numbers as text if nothing names them; none if it has no labels.

    Raises:
        InputError: the file is damaged.
    """
    arrays = named_arrays(path, options.max_bytes, (*_CLASSES, *_CLASS_NAMES))
    labels = _labels(arrays, path)
    if labels is None or labels.size == 0:
        return ()
    if labels.dtype.kind not in "iub":
        return tuple(sorted({_text(label) for label in labels}))
    names = _first(arrays, _CLASS_NAMES)
    if names is not None:
        return tuple(_text(name) for name in names.ravel())
    beside = path.with_name("shape_names.txt")
    if beside.is_file():
        return tuple(beside.read_text().split())
    for target in options.targets:
        if target.name == CLASS:
            return target.classes
    most = int(labels.max())
    if most >= _MOST_CLASSES:
        raise InputError(f"'{path}': class {most} has no name: an array 'classes' must name so many")
    return tuple(str(index) for index in range(most + 1))


def _tables(arrays: Mapping[str, np.ndarray]) -> tuple[int, Iterator[Cloud]]:
    """Number of the clouds of points, and each of them."""
    points = _first(arrays, _POINTS)
    if points is None:
        raise InputError(f"no array is a cloud: it has none of {', '.join((*_POINTS, 'voxels', 'voxels_packed'))}")
    parts = [points, *(arrays[name] for name in _FEATURES if name in arrays)]
    shapes = ", ".join(str(part.shape) for part in parts)
    if any(part.ndim != points.ndim or part.shape[:-1] != points.shape[:-1] for part in parts) or points.ndim < 2:
        raise InputError(f"points and features of shapes {shapes} do not fit each other")
    ptr = _first(arrays, _PTR)
    if ptr is not None:
        if points.ndim != 2 or ptr.ndim != 1 or ptr[:1] != 0 or ptr[-1:] != len(points) or (np.diff(ptr) < 0).any():
            raise InputError(f"the offsets of the clouds must ascend from 0 to {len(points)}")
        tables = [np.split(part, ptr[1:-1]) for part in parts]
    else:
        tables = [list(part) if part.ndim == 3 else [part] for part in parts]
    return len(tables[0]), (table_cloud(np.concatenate(columns, axis=-1)) for columns in zip(*tables, strict=True))


def _voxels(arrays: Mapping[str, np.ndarray]) -> tuple[int, Iterator[Cloud]]:
    """Number of the occupancy grids, and the occupied cells of each."""
    if "voxels" in arrays:
        if arrays["voxels"].ndim != 4:
            raise InputError(f"voxels of shape {arrays['voxels'].shape} are not grids (n, I, J, K)")
        return len(arrays["voxels"]), (Cloud(voxel_to_points(grid)) for grid in arrays["voxels"])
    packed = arrays["voxels_packed"]
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise InputError(f"voxels_packed of shape {packed.shape} and type {packed.dtype} are not bits (n, bytes)")
    side = int(np.cbrt(8 * packed.shape[1]) + 1e-9)  # the largest cube that fits
    shape = tuple(arrays["grid"].ravel().tolist()) if "grid" in arrays else (side,) * 3
    cells = int(np.prod(shape))
    if len(shape) != 3 or min(shape) < 1 or cells > 8 * packed.shape[1]:
        raise InputError(f"{packed.shape[1]} bytes do not hold a grid of {shape} cells")
    grids = (np.unpackbits(row)[:cells].reshape(shape) for row in packed)
    return len(packed), (Cloud(voxel_to_points(grid)) for grid in grids)


def _labels(arrays: Mapping[str, np.ndarray], path: Path) -> np.ndarray | None:
    """Classes of the clouds (n,), as integers or as text."""
    labels = _first(arrays, _CLASSES)
    if labels is None:
        return None
    labels = labels.ravel()  # (n, 1) in ModelNet40
    if labels.dtype.kind == "f" and (np.abs(labels) < 2**53).all() and (labels == np.round(labels)).all():
        return labels.astype(np.int64)
    if labels.dtype.kind not in "iubUSO":
        raise InputError(f"'{path}': the labels of the clouds must be whole numbers or names")
    return labels


def _classes_of(labels: np.ndarray | None, names: tuple[str, ...], count: int) -> list[str]:
    """Class of each cloud by its name; empty where there is none."""
    if labels is None:
        return [""] * count
    if len(labels) != count:
        raise InputError(f"there are {len(labels)} labels for {count} clouds")
    if labels.dtype.kind not in "iub":
        return [_text(label) for label in labels]
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        raise InputError(f"cloud {outside[0] + 1} has class {labels[outside[0]]}, there are {len(names)} classes")
    return [names[label] for label in labels]


def _first(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def named_arrays(path: Path, max_bytes: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that a file has, whole; nothing is ever unpickled.

    Raises:
        InputError: the file is missing or damaged, h5py is needed and missing, or the arrays exceed `max_bytes`.
    """
    if suffix_of(path) == ".npz":
        with open_archive(path, max_bytes) as archive:
            found = [name for name in names if name in archive.names]
            return {name: archive.load(name, "fiubUS", archive.header(name)[0]) for name in found}
    with open_hdf5(path, max_bytes) as file:
        there = {*file}  # `in file` would follow links
        members = {name: member(file, name) for name in names if name in there}
        arrays = {name: each for name, each in members.items() if hasattr(each, "dtype")}
        size = sum(each.nbytes for each in arrays.values())
        if size > max_bytes:
            raise InputError(f"'{path}' is larger than allowed: raise max_bytes if its arrays are meant to be so large")
        return {name: np.asarray(each) for name, each in arrays.items()}
