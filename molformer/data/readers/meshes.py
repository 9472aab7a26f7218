"""PLY, OFF, OBJ and STL, read by trimesh: a cloud as it is, a mesh as points drawn evenly from its surface.

trimesh forgives files that are cut short; the counts that a file states are compared here with what was read.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from molformer.data.readers.cloud import Cloud
from molformer.data.readers.entry import ReadOptions
from molformer.data.readers.files import open_bytes, suffix_of
from molformer.errors import InputError, extra

_NORMALS = ("nx", "ny", "nz")
_COLOURS = ("red", "green", "blue")


def load(path: Path, options: ReadOptions) -> Cloud:
    """Cloud of a file; `options.points` points, chosen with `options.seed`, where it has faces.

    Raises:
        InputError: trimesh is not installed, or the file is not what its name says, or is cut short.
    """
    with extra("points", f"'{path}' needs trimesh", InputError):
        import trimesh

    kind = suffix_of(path)[1:]
    with open_bytes(path, options.max_bytes) as file:
        content = file.read()
    try:
        _refuse_more_than_is_there(kind, content)
        # Without a resolver no other file, such as the material of an OBJ, is opened.
        with _silent(trimesh.util.log):
            mesh: Any = trimesh.load(io.BytesIO(content), file_type=kind, process=False, skip_materials=True)
        if isinstance(mesh, trimesh.Scene):
            mesh = mesh.to_mesh()
        pos = np.asarray(mesh.vertices, dtype=np.float64).reshape(len(mesh.vertices), 3)
        faces = np.asarray(getattr(mesh, "faces", ()), dtype=np.int64).reshape(-1, 3)
        features = None if len(faces) else _features(mesh, len(pos))
        stated = _stated_counts(kind, content)
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"'{path}' is not a complete {kind.upper()} file: {reason}") from None
    if stated is not None and stated[0] != stated[1]:
        raise InputError(
            f"'{path}' is cut short: it should have {stated[0]} lines of vertices and faces, not {stated[1]}"
        )
    if len(pos) == 0:
        raise InputError(f"'{path}' is not a {kind.upper()} file with vertices")
    if len(faces) == 0:
        return Cloud(pos, features)
    if faces.min() < 0 or faces.max() >= len(pos):
        raise InputError(f"'{path}': a face names vertex {faces.max() + 1} of {len(pos)}")
    try:
        return Cloud(sample_surface(pos, faces, options.points, np.random.default_rng(options.seed)))
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions (count, 3) drawn evenly from the surface of triangles (f, 3) of vertices (v, 3).

    Raises:
        InputError: a vertex of a face is not finite, or the mesh has no area.
    """
    corner, first, second = (vertices[faces[:, i]] for i in range(3))
    first, second = first - corner, second - corner
    with np.errstate(all="ignore"):  # the result is checked
        area = np.linalg.norm(np.cross(first, second), axis=1)
        total = area.sum()
    if not np.isfinite(total):
        raise InputError("a vertex of the mesh is not finite, or too large a number")
    if not total > 0:
        raise InputError("the faces of the mesh have no area")
    chosen = rng.choice(len(faces), size=count, p=area / total)
    u, v = rng.random((2, count, 1))
    outside = u + v > 1  # the other half of the parallelogram, folded back
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    return corner[chosen] + u * first[chosen] + v * second[chosen]


def _features(mesh: Any, count: int) -> np.ndarray | None:
    """Normals and colours (0 to 1) of a cloud without faces."""
    found = []
    raw = mesh.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    if raw is not None:
        names = raw.dtype.names if isinstance(raw, np.ndarray) else raw
        for group in (_NORMALS, _COLOURS):
            if all(name in names for name in group):
                values = np.stack([np.asarray(raw[name]).reshape(count) for name in group], axis=1)
                found.append(values / 255.0 if values.dtype == np.uint8 else values)
    elif len(getattr(mesh, "colors", ())) == count:
        found.append(np.asarray(mesh.colors)[:, :3] / 255.0)
    return np.concatenate(found, axis=1).astype(np.float64) if found else None


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Suppress tracebacks printed by a library."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _refuse_more_than_is_there(kind: str, content: bytes) -> None:
    """Refuse counts of a PLY header that the file has not a byte each for, before memory is taken for them."""
    header = content.partition(b"end_header")[0] if kind == "ply" else b""
    for count in re.findall(rb"^\s*element\s+\S+\s+(\d+)", header, re.MULTILINE):
        if int(count) > len(content):
            raise ValueError(f"it says {int(count)} vertices or faces and has {len(content)} bytes")


def _stated_counts(kind: str, content: bytes) -> tuple[int, int] | None:
    """Lines of vertices and faces that a text file announces, and those that it has; None if it announces none."""
    text = content.decode("utf-8", errors="replace")
    if kind == "ply" and re.search(r"^format ascii", text, re.MULTILINE):
        header, _, body = text.partition("end_header")
        stated = sum(int(count) for count in re.findall(r"^element \S+ (\d+)", header, re.MULTILINE))
        return stated, sum(1 for line in body.splitlines() if line.strip())
    if kind == "off":
        body = re.sub(r"#.*", "", text).partition("OFF")[2]
        lines = [line.split() for line in body.splitlines() if line.strip()]
        stated = int(lines[0][0]) + int(lines[0][1])
        return stated, min(stated, len(lines) - 1)  # edges and colours may follow
    return None
