"""Point clouds and meshes: PLY, OFF, OBJ, STL, PCD, NPY, NPZ, HDF5, text, and trees of such files by class.

Points have no element: `numbers` are 0, and `pos` are in the unit of the file. Normals and colours (0 to 1) are the
`features`; a mesh becomes points on its surface and has none.
"""

from collections.abc import Iterator
from pathlib import Path

from molformer.data.readers import cloud_arrays, meshes, pcd
from molformer.data.readers.cloud import CLASS, Cloud, class_label, cloud_structure, load_npy, load_text
from molformer.data.readers.entry import Entry, Format, ReadOptions
from molformer.data.readers.files import suffix_of
from molformer.errors import InputError
from molformer.targets import Label

_LOADERS = {
    ".ply": meshes.load,
    ".off": meshes.load,
    ".obj": meshes.load,
    ".stl": meshes.load,
    ".pcd": pcd.load,
    ".npy": load_npy,
    ".pts": load_text,
    ".xyzn": load_text,
}
_ARRAYS = (".npz", ".h5", ".hdf5")


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Clouds of a file or of a tree of files, one after another."""
    wanted = list(options.targets) or labels(path, options)
    if path.is_dir():
        yield from _read_tree(path, wanted, options)
    elif suffix_of(path) in _ARRAYS:
        for row, cloud in enumerate(cloud_arrays.load(path, options), start=1):
            where = f"{path}, cloud {row}"
            yield _entry(cloud, where, where, wanted)
    else:
        yield _read_one(path, str(path), "", wanted, options)


def labels(path: Path, options: ReadOptions) -> list[Label]:
    """The class, where the file or the tree says what its clouds show."""
    names: tuple[str, ...] = ()
    if path.is_dir():
        names = tuple(sorted({file.relative_to(path).parts[0] for file in _files(path) if file.parent != path}))
    elif suffix_of(path) in _ARRAYS:
        names = cloud_arrays.class_names(path, options)
    return [class_label(names)] if names else []


def names(path: Path, options: ReadOptions) -> list[str]:
    """The class of a tree; `read` itself refuses targets that are no arrays of a file. See `Format.names`."""
    if suffix_of(path) in _ARRAYS:
        return [target.name for target in options.targets]
    return [CLASS] if path.is_dir() else []


def _read_tree(root: Path, wanted: list[Label], options: ReadOptions) -> Iterator[Entry]:
    """Clouds of `class/…/file`, as ModelNet has them; the name is the path below the root, `train` or `test` in it."""
    files = _files(root)
    if not files:
        raise InputError(f"'{root}' has no point clouds: no file below it ends in {', '.join(_LOADERS)}")
    for file in files:
        below = file.relative_to(root)
        class_name = below.parts[0] if len(below.parts) > 1 else ""
        yield _read_one(file, below.as_posix(), class_name, wanted, options)


def _files(root: Path) -> list[Path]:
    """Files of a tree that are clouds, in the order of their names; `.txt` is one inside the folder of a class."""
    return sorted(
        file
        for file in root.rglob("*")
        if (suffix_of(file) in _LOADERS or (suffix_of(file) == ".txt" and file.parent != root))
        and not file.name.startswith(".")
        and file.is_file()
    )


def _read_one(path: Path, name: str, class_name: str, wanted: list[Label], options: ReadOptions) -> Entry:
    try:
        cloud = _LOADERS.get(suffix_of(path), load_text)(path, options)
    except InputError as error:
        return Entry(name, where=str(path), error=error)
    return _entry(Cloud(cloud.pos, cloud.features, class_name), name, str(path), wanted)


def _entry(cloud: Cloud, name: str, where: str, wanted: list[Label]) -> Entry:
    try:
        return Entry(name, where=where, structure=cloud_structure(cloud, where, wanted))
    except InputError as error:
        return Entry(name, where=where, error=error)


FORMAT = Format(read, labels, names)
