"""StructureStore: ragged arrays of structures and labels in one memory-mapped safetensors file.

Per-atom arrays of all structures are concatenated; structure i has the rows ptr[i]:ptr[i+1], and of bonds, if there
are any, bonds.ptr[i]:bonds.ptr[i+1], pairs of its own atoms. The header carries a manifest (JSON): format version,
counts, labels with units and kinds, source and a hash of the content.
A store is read lazily, by any number of processes, without unpickling.

Letters: n structures, A atoms in total.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from molformer.data.drafts import draft_folder, writing
from molformer.elements import SYMBOLS
from molformer.errors import DAMAGE, InputError, StoreError, UnitError, one_line
from molformer.molecular_graph import ATOM_FEATURES, BOND_FEATURES, UNKNOWN, MolecularGraph
from molformer.structure import Structure
from molformer.targets import Label, bounds_of

FORMAT = 2  #: version of the store format; newer ones are refused. Format 1 had no molecular graphs

_MANIFEST = "molformer.store"
_SAFETENSORS_NAME = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8"}
_MANIFEST_KEYS = frozenset(
    ("format", "structures", "atoms", "elements", "labels", "geometries", "source", "sha256", "header_sha256")
)
_OFFSETS = ("ptr", "smiles.ptr", "name.ptr")
_COLUMNS = dict.fromkeys((*_OFFSETS, "group"), "int64") | {"pos": "", "numbers": "uint8", "charge": "int8"}
_COLUMNS |= dict.fromkeys(("spin", "geometry", "smiles.utf8", "name.utf8"), "uint8")  # those of `pos` are the writer's
_GRAPH = {
    "atom_features": ("int8", len(ATOM_FEATURES)),
    "bonds": ("int32", 2),
    "bond_features": ("int8", len(BOND_FEATURES)),
}
_COPY_BYTES = 1 << 20


class StructureStore(Sequence[Structure]):
    """A read-only sequence of structures in a file.

    Args:
        path: a file written by `StoreWriter`.

    Raises:
        StoreError: the file is missing, damaged, not a store, or of a newer format.

    Example:
        >>> import tempfile
        >>> water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], labels={"gap": 9.2})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = write_store(f"{folder}/water", [water], [Label("gap", "eV", "intensive")])
        ...     store[0].formula, float(store[0].labels["gap"]), store.path.name
        ('H2O', 9.2, 'water.safetensors')
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._open(path)
        try:
            self._check()
        except DAMAGE as error:
            raise StoreError(f"'{self.path}' is damaged: {one_line(error)}") from None

    def _open(self, path: str | os.PathLike[str]) -> None:
        """Map the file and validate its header."""
        self.path = store_path(path)
        if not self.path.is_file():
            raise StoreError(f"there is no store at '{self.path}'; `molformer data import` makes one")
        try:
            with safe_open(self.path, framework="np") as file:
                text = (file.metadata() or {}).get(_MANIFEST)
            if text is None:
                raise StoreError(f"'{self.path}' is a safetensors file but not a molformer store")
            header, self._columns = _memory_map(self.path)
            self.manifest: dict[str, Any] = json.loads(text)
            if int(self.manifest["format"]) > FORMAT:
                raise StoreError(
                    f"'{self.path}' has store format {self.manifest['format']}, this version reads up to {FORMAT}: "
                    "install a newer molformer"
                )
            if self.manifest.get("header_sha256", "") not in ("", _header_hash(header, self.manifest)):
                raise ValueError("its header differs from its hash")
            self.labels = {entry["name"]: Label(**entry) for entry in self.manifest["labels"]}
        except (SafetensorError, InputError, UnitError, *DAMAGE) as error:
            raise StoreError(f"'{self.path}' is damaged or not a store: {one_line(error)}") from None

    def _check(self) -> None:
        """Check the consistency of counts, columns and offsets, so that no structure is truncated or missing."""
        if unknown := set(self.manifest) - _MANIFEST_KEYS:
            raise ValueError(f"its manifest has an unknown entry '{min(unknown)}'")
        count, atoms = (self.manifest[key] for key in ("structures", "atoms"))
        texts = ("smiles", "name")
        rows: dict[str, int | None] = dict.fromkeys((*self._columns, *_COLUMNS), count)
        rows |= dict.fromkeys(("numbers", "pos", *self._columns.keys() & {"features"}), atoms)
        rows |= dict.fromkeys(_OFFSETS, count + 1) | {f"{name}.utf8": None for name in texts}
        shapes: dict[str, tuple[int, ...]] = {"pos": (3,), "cell": (3, 3), "pbc": (3,)}
        offsets = {"ptr": atoms} | {f"{text}.ptr": len(self._columns[f"{text}.utf8"]) for text in texts}
        if "bonds" in self._columns:
            offsets["bonds.ptr"] = len(self._columns["bonds"])
            rows |= {"atom_features": atoms, "bonds": None, "bonds.ptr": count + 1}
            rows["bond_features"] = offsets["bonds.ptr"]
            shapes |= {name: (width,) for name, (_, width) in _GRAPH.items()}
        for label in self.labels.values():
            shapes[f"label.{label.name}"] = label.shape
            rows[f"label.{label.name}"] = atoms if label.per_node else count
        for name, expected in rows.items():
            column = self._columns[name]
            kind = "f" if name in ("pos", "cell", "pbc", "features") or name.startswith("label.") else "iu"
            right = shapes.get(name, column.shape[1:] if name == "features" else ())
            if column.shape[1:] != right or expected not in (None, len(column)) or column.dtype.kind not in kind:
                raise ValueError(f"its column '{name}' of shape {column.shape} and type {column.dtype} does not fit")
        for name, stop in offsets.items():
            places = self._columns[name]
            if places[0] != 0 or places[-1] != stop or (np.diff(places) < 0).any():
                raise ValueError(f"its offsets '{name}' do not rise from 0 to {stop}")
        if "bonds" in self._columns:
            ends, sizes = self._columns["bonds"], np.repeat(self.sizes, np.diff(self._columns["bonds.ptr"]))
            if (ends < 0).any() or (ends >= sizes[:, None]).any():
                raise ValueError("a bond is one of an atom that is not there")
        if count and int(self._columns["geometry"].max()) >= len(self.manifest["geometries"]):
            raise ValueError("a structure has an origin of its geometry that the manifest does not name")
        self.elements  # noqa: B018 - the symbols are known

    def __iter__(self) -> Iterator[Structure]:
        return map(self.__getitem__, range(len(self)))  # unlike that of `Sequence`, not ended by an error inside

    def __len__(self) -> int:
        return int(self.manifest["structures"])

    def __getitem__(self, index: int) -> Structure:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"structure {index} of a store of {len(self)}")
        index %= len(self)
        rows = self.rows(index)
        values = {
            name: self._columns[f"label.{name}"][rows if label.per_node else index]
            for name, label in self.labels.items()
        }
        graph = self.molecular_graph(np.array([index]))
        return Structure(
            numbers=self._columns["numbers"][rows],
            pos=self._columns["pos"][rows],
            charge=int(self._columns["charge"][index]),
            spin=int(self._columns["spin"][index]),
            cell=self._optional("cell", index),
            pbc=self._periodic(index),
            features=self._optional("features", rows),
            smiles=self._text("smiles", index),
            name=self._text("name", index),
            geometry=self.manifest["geometries"][int(self._columns["geometry"][index])],
            group=int(self._columns["group"][index]),
            labels=values,
            molecular_graph=None if graph is None or (graph.atom_features == UNKNOWN).all() else graph,
        )

    def __getstate__(self) -> str:
        return str(self.path)  # a worker process maps the file anew

    def __setstate__(self, path: str) -> None:
        self._open(path)

    def rows(self, index: int) -> slice:
        """Rows of the per-atom columns that belong to structure `index`."""
        ptr = self._columns["ptr"]
        return slice(int(ptr[index]), int(ptr[index + 1]))

    @cached_property
    def sizes(self) -> np.ndarray:
        """Atoms of each structure (n,)."""
        return np.diff(self._columns["ptr"])

    @property
    def groups(self) -> np.ndarray:
        """Group of each structure (n,); a structure without a group has its own."""
        groups = np.array(self._columns["group"])
        alone = groups < 0
        groups[alone] = groups.max(initial=-1) + 1 + np.arange(alone.sum())
        return groups

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns without labels; `cell`, `pbc` and `features` are optional."""
        return tuple(name for name in self._columns if not name.startswith("label."))

    @property
    def elements(self) -> list[int]:
        """Atomic numbers in the store, ascending."""
        return [SYMBOLS.index(symbol) for symbol in self.manifest["elements"]]

    def column(self, name: str) -> np.ndarray:
        """A whole column, memory-mapped: `pos` (A, 3), `numbers` (A,), `ptr` (n+1,) or a label by its name.

        Raises:
            StoreError: the store has no such label.
        """
        if name in self._columns:
            return self._columns[name]
        return self._columns[f"label.{self.label(name).name}"]

    def label(self, name: str) -> Label:
        """Unit and kind of a label.

        Raises:
            StoreError: the store has no such label.
        """
        if name not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise StoreError(f"'{self.path}' has no label '{name}'; its labels: {known}")
        return self.labels[name]

    def verify(self) -> None:
        """Verify the content by the hash in the manifest; the header is verified by its own when a store is opened.

        Raises:
            StoreError: they differ: the file is damaged.
        """
        with open(self.path, "rb") as file:
            file.seek(8 + struct.unpack("<Q", file.read(8))[0])
            digest = hashlib.file_digest(file, "sha256")
        if digest.hexdigest() != self.manifest["sha256"]:
            raise StoreError(f"the content of '{self.path}' differs from its hash: the file is damaged")

    def molecular_graph(self, indices: np.ndarray) -> MolecularGraph | None:
        """The molecular graphs of some structures as one, atoms counted on; None if the store has none at all."""
        if "bonds" not in self._columns:
            return None
        atoms, _ = ragged_rows(self._columns["ptr"], indices)
        bonds, owner = ragged_rows(self._columns["bonds.ptr"], indices)
        starts = np.cumsum([0, *self.sizes[indices]])
        return MolecularGraph(
            self._columns["atom_features"][atoms],
            self._columns["bonds"][bonds] + starts[owner][:, None],
            self._columns["bond_features"][bonds],
        )

    def _periodic(self, index: int) -> tuple[bool, bool, bool]:
        flags = self._optional("pbc", index)
        return (True, True, True) if flags is None else (bool(flags[0]), bool(flags[1]), bool(flags[2]))

    def _optional(self, name: str, rows: int | slice) -> np.ndarray | None:
        """Values of an optional column; NaN if missing."""
        values = self._columns[name][rows] if name in self._columns else None
        return None if values is None or np.isnan(values).any() else values

    def _text(self, name: str, index: int) -> str:
        ptr = self._columns[f"{name}.ptr"]
        return bytes(self._columns[f"{name}.utf8"][int(ptr[index]) : int(ptr[index + 1])]).decode(errors="replace")


class StoreWriter(contextlib.AbstractContextManager["StoreWriter"]):
    """Context manager that writes a store in constant memory; the file is created atomically on exit.

    Args:
        path: output file; `.safetensors` is appended if missing.
        labels: stored labels; missing values are NaN.
        source: origin of the data, stored in the manifest.
        precision: numpy type of the positions and per-atom labels.

    Attributes:
        folder: temporary folder, removed on exit, or by the next writer.

    Raises:
        StoreError: the folder cannot be written, or an `OSError` ends the block, as on a full disk.
        InputError: a label of a structure has the wrong shape, or is the stress of one that is not periodic.
    """

    def __init__(
        self, path: str | os.PathLike[str], labels: Iterable[Label] = (), source: str = "", precision: str = "float32"
    ) -> None:
        self.path = store_path(path)
        self.labels = {label.name: label for label in labels}
        self.source = source
        self._atoms = self._structures = 0
        self._elements: set[int] = set()
        self._geometries: list[str] = []
        self._text_bytes = {"smiles": 0, "name": 0}
        self._columns: dict[str, _Column] = {}
        with writing(self.path, StoreError), contextlib.ExitStack() as begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.folder = begun.enter_context(draft_folder(self.path))
            begun.callback(self._close)
            self._begin(precision)
            self._draft = begun.pop_all()

    def _close(self) -> None:
        for column in self._columns.values():
            with contextlib.suppress(OSError):  # of an aborted writer
                column.close()

    def _begin(self, precision: str) -> None:
        for name, dtype in _COLUMNS.items():
            self._new_column(name, dtype or precision, (3,) if name == "pos" else ())
        for label in self.labels.values():
            self._new_column(f"label.{label.name}", precision if label.per_node else "float64", label.shape)
        for name in _OFFSETS:
            self._columns[name].append(np.zeros(1))

    def _new_column(self, name: str, dtype: str, shape: tuple[int, ...] = ()) -> "_Column":
        self._columns[name] = _Column(self.folder, name, dtype, shape)
        return self._columns[name]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._draft, writing(self.path, StoreError):
            if isinstance(error, OSError):
                raise error
            if kind is None:
                self._finish()

    def add(self, structure: Structure) -> None:
        """Append one structure."""
        self._add_bounds(structure)
        values = {label.name: self._label_value(structure, label) for label in self.labels.values()}
        self._add_optional(structure)
        self._add_graph(structure)
        self._atoms += len(structure)
        self._structures += 1
        self._elements.update(structure.numbers.tolist())
        if structure.geometry not in self._geometries:
            self._geometries.append(structure.geometry)
        rows: dict[str, Any] = {
            "ptr": [self._atoms],
            "group": [structure.group],
            "pos": structure.near_origin(),
            "numbers": structure.numbers,
            "charge": [structure.charge],
            "spin": [structure.spin],
            "geometry": [self._geometries.index(structure.geometry)],
        }
        for name in ("smiles", "name"):
            text = getattr(structure, name).encode()
            self._text_bytes[name] += len(text)
            rows[f"{name}.utf8"] = np.frombuffer(text, dtype=np.uint8)
            rows[f"{name}.ptr"] = [self._text_bytes[name]]
        for name, value in values.items():
            rows[f"label.{name}"] = value if self.labels[name].per_node else value[None]
        for key, value in rows.items():
            self._columns[key].append(value)

    def _add_bounds(self, structure: Structure) -> None:
        """Begin the labels of bounds, see `bounds_of`, with the first structure that has one; NaN before."""
        for name in structure.labels.keys() - self.labels.keys():
            of = self.labels.get(name[:-1])
            if of is not None and name in bounds_of(of.name) and np.isfinite(structure.labels[name]).any():
                self.labels[name] = replace(of, name=name)
                self._new_column(f"label.{name}", "float64").append(np.full(self._structures, np.nan))

    def _add_optional(self, structure: Structure) -> None:
        """Append to optional columns, which are created by the first structure that has them; NaN if missing."""
        periodic = structure.cell is not None
        cell, pbc = np.array([structure.cell]), np.array([structure.pbc], dtype=np.float32)
        values = {"cell": cell if periodic else None, "pbc": pbc if periodic else None, "features": structure.features}
        for name, rows in values.items():
            before, count = (self._atoms, len(structure)) if name == "features" else (self._structures, 1)
            if rows is not None and name not in self._columns:
                column = self._new_column(name, "float64" if name == "cell" else "float32", rows.shape[1:])
                column.append(np.full((before, *rows.shape[1:]), np.nan))
            if name in self._columns:
                shape = self._columns[name].shape
                if rows is not None and rows.shape[1:] != shape:
                    raise InputError(
                        f"{structure.where}: {name} of shape {rows.shape[1:]}, where the structures before have {shape}"
                    )
                self._columns[name].append(np.full((count, *shape), np.nan) if rows is None else rows)

    def _add_graph(self, structure: Structure) -> None:
        """Append to the columns of molecular graphs, which begin with the first structure that has one."""
        graph = structure.molecular_graph
        if graph is None and "bonds" not in self._columns:
            return
        if "bonds" not in self._columns:
            self._new_column("bonds.ptr", "int64").append(np.zeros(self._structures + 1))
            for name, (dtype, width) in _GRAPH.items():
                self._new_column(name, dtype, (width,))
            self._columns["atom_features"].append(MolecularGraph.unknown(self._atoms).atom_features)
        graph = graph or MolecularGraph.unknown(len(structure))
        for name in _GRAPH:
            self._columns[name].append(getattr(graph, name))
        self._columns["bonds.ptr"].append([self._columns["bonds"].count])

    def _label_value(self, structure: Structure, label: Label) -> np.ndarray:
        shape = (len(structure), *label.shape) if label.per_node else label.shape
        value = structure.labels.get(label.name)
        if value is None:
            return np.full(shape, np.nan)
        if value.shape != shape:
            raise InputError(
                f"{structure.where}: label '{label.name}' has shape {value.shape}, a label of kind "
                f"'{label.kind}' needs {shape}"
            )
        if label.target_kind.periodic and not structure.periodic and np.isfinite(value).any():
            raise InputError(
                f"{structure.where}: label '{label.name}' is a {label.kind}, which a structure has that is periodic in "
                "three directions: give it a cell, or leave the label out"
            )
        return value

    def _finish(self) -> None:
        # Widest type first, so that every column starts at a multiple of its item size.
        columns = sorted(self._columns.items(), key=lambda item: -item[1].dtype.itemsize)
        digest = hashlib.sha256()
        header: dict[str, Any] = {}
        offset = 0
        for key, column in columns:
            column.close()
            end = offset + column.path.stat().st_size
            shape = (column.count, *column.shape)
            dtype = _SAFETENSORS_NAME[column.dtype.name]
            header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
            offset = end
            for block in _blocks(column.path):
                digest.update(block)
        manifest = {
            "format": FORMAT,
            "structures": self._structures,
            "atoms": self._atoms,
            "elements": [SYMBOLS[number] for number in sorted(self._elements)],
            "labels": [label.to_dict() for label in self.labels.values()],
            "geometries": self._geometries,
            "source": self.source,
            "sha256": digest.hexdigest(),
        }
        manifest["header_sha256"] = _header_hash(header, manifest)
        header["__metadata__"] = {_MANIFEST: json.dumps(manifest, ensure_ascii=False)}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        whole = self.folder / "store"
        with open(whole, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, column in columns:
                for block in _blocks(column.path):
                    file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(whole, self.path)


def write_store(
    path: str | os.PathLike[str], structures: Iterable[Structure], labels: Iterable[Label] = (), source: str = ""
) -> StructureStore:
    """Write structures to a store and open it; see `StoreWriter`."""
    with StoreWriter(path, labels, source) as writer:
        for structure in structures:
            writer.add(structure)
    return StructureStore(path)


def ragged_rows(ptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a ragged column that belong to some structures, one after another, and the place of each one's owner.

    Example:
        >>> ragged_rows(np.array([0, 2, 5]), np.array([1, 0]))
        (array([2, 3, 4, 0, 1]), array([0, 0, 0, 1, 1]))
    """
    sizes = ptr[indices + 1] - ptr[indices]
    owner = np.repeat(np.arange(len(indices)), sizes)
    return np.arange(len(owner)) + (ptr[indices] - (np.cumsum(sizes) - sizes))[owner], owner


def store_path(path: str | os.PathLike[str]) -> Path:
    """The file of a store; the suffix `.safetensors` is optional."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


class _Column:
    """A column that is being written: a file of raw values."""

    def __init__(self, folder: Path, name: str, dtype: str, shape: tuple[int, ...] = ()) -> None:
        self.path = folder / name.replace("/", "%")
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.count = 0
        self._file: IO[bytes] = open(self.path, "wb")  # noqa: SIM115 - closed by the writer

    def append(self, rows: Any) -> None:
        values = np.ascontiguousarray(rows, dtype=self.dtype)
        self.count += len(values)
        self._file.write(values.data if values.size else b"")

    def close(self) -> None:
        self._file.close()


def _blocks(path: Path) -> Iterable[bytes]:
    with open(path, "rb") as file:
        while block := file.read(_COPY_BYTES):
            yield block


def _header_hash(header: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Hash of a header: names, types and offsets of the columns, and the manifest without this hash."""
    said = [header, {key: value for key, value in manifest.items() if key != "header_sha256"}]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _memory_map(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header, and read-only views of all arrays, of a safetensors file that has been checked already."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    dtypes = {short: np.dtype(name) for name, short in _SAFETENSORS_NAME.items()}
    whole = np.memmap(path, dtype=np.uint8, mode="r", offset=0)
    columns = {}
    for key, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        columns[key] = whole[start:end].view(dtypes[entry["dtype"]]).reshape(entry["shape"])
    return header, columns
