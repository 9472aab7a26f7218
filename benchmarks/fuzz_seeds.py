"""Sound inputs from which `benchmarks.fuzz` makes unsound ones, and how it changes them."""

import io
import json
import random
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

XYZ = b"3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
EXTXYZ = (
    b'2\nLattice="4.0 0 0 0 4.0 0 0 0 4.0" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T"\n'
    b"Na 0 0 0 0.1 0 0\nCl 2 0 0 -0.1 0 0\n"
)
MOL = b"""water
     RDKit          3D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0
    0.9600    0.0000    0.0000 H   0  0
   -0.2400    0.9300    0.0000 H   0  0
  1  2  1  0
  1  3  1  0
M  END
"""
PDB = b"""HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O
HETATM    2  H1  HOH A   1       0.960   0.000   0.000  1.00  0.00           H
CONECT    1    2
END
"""
MOL2 = b"""@<TRIPOS>MOLECULE
water
 3 2 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
      1 O      0.0000    0.0000    0.0000 O.3   1  W  0.0
      2 H1     0.9600    0.0000    0.0000 H     1  W  0.0
      3 H2    -0.2400    0.9300    0.0000 H     1  W  0.0
@<TRIPOS>BOND
     1     1     2    1
     2     1     3    1
"""
PLY = (
    b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    b"element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
)
PCD = (
    b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\n"
    b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA ascii\n0 0 0\n1 1 1\n"
)
STL = (
    b"solid s\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
    b"endsolid s\n"
)

TEXTS = {
    ".smi": b"CCO ethanol\nc1ccccc1 benzene\n[NH4+] ammonium\n",
    ".xyz": XYZ + XYZ,
    ".extxyz": EXTXYZ + EXTXYZ,
    ".sdf": MOL + b">  <gap>\n1.5\n\n$$$$\n" + MOL + b">  <gap>\n2.5\n\n$$$$\n",
    ".mol": MOL,
    ".pdb": PDB,
    ".mol2": MOL2,
    ".csv": b'smiles,name,gap\nCCO,ethanol,1.5\n"C,C",x,2.5\nCCN,"a ""b""",-3e-2\n',
    ".tsv": b"smiles\tgap\nCCO\t1.5\nCCN\t2.5\n",
    ".ply": PLY,
    ".off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    ".obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    ".stl": STL,
    ".pcd": PCD,
    ".pts": b"0 0 0\n1 0 0\n0 1 0\n",
    ".xyzn": b"0 0 0 0 0 1\n1 0 0 0 0 1\n",
}

NUMBERS = (b"0", b"-1", b"1e100", b"-1e-300", b"nan", b"inf", b"300000000", b"99999999999999999999", b"2147483648")
WORDS = (b"", b" ", b"\x00", b"\xff\xfe", b"\n", b",", b'"', b"[", b"(" * 500, b"1" * 5000, "−½é".encode(), b"=cmd")


def file_seeds() -> dict[str, bytes]:
    """A sound file of each kind that can be read, by its ending."""
    import h5py
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    def written(write: Callable[[io.BytesIO], object]) -> bytes:
        buffer = io.BytesIO()
        write(buffer)
        return buffer.getvalue()

    numbers, pos = np.array([8, 1, 1]), np.array([[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]])
    arrays = {"z": numbers, "R": pos, "E": np.array([-1.5]), "F": 0 * pos}

    def write_hdf5(buffer: io.BytesIO) -> None:
        with h5py.File(buffer, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)

    table = pyarrow.table({"smiles": ["CCO", "CCN"], "gap": [1.5, 2.5]})
    return {
        **TEXTS,
        ".npy": written(lambda buffer: np.save(buffer, pos[0])),
        ".npz": written(lambda buffer: np.savez(buffer, **arrays)),
        ".h5": written(write_hdf5),
        ".parquet": written(lambda buffer: pyarrow.parquet.write_table(table, buffer)),
    }


def store_seed() -> bytes:
    """A small structure store."""
    import numpy as np

    from molformer.data.store import write_store
    from molformer.data.structure import Label, Structure

    def structures() -> list[Structure]:
        pos = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        labels = {"gap": np.array(1.5), "forces": 0 * pos}
        return [
            Structure(np.array([8, 1, 1]), pos, smiles="O", name=f"row {index}", labels=labels) for index in range(3)
        ]

    with tempfile.TemporaryDirectory() as folder:
        labels = [Label("gap", "eV", "intensive"), Label("forces", "eV/Å", "forces")]
        return write_store(Path(folder) / "set", structures(), labels).path.read_bytes()


def model_seed() -> dict[str, bytes]:
    """The files of a small model folder."""
    from molformer.data.structure import Label
    from molformer.models import PropertyModel, SE3TransformerConfig

    config = SE3TransformerConfig(lmax=1, channels=8, num_layers=1, num_heads=2)
    with tempfile.TemporaryDirectory() as folder:
        PropertyModel(config, [Label("gap", "eV", "intensive"), Label("state", "", "binary")]).save(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".md"}


def body_seeds() -> list[bytes]:
    """Bodies of requests to /predict and /explain."""
    water = XYZ.decode()
    bodies: list[Mapping[str, object]] = [
        {"molecules": ["CCO", water], "targets": ["gap"], "unit": "eV", "conformers": 2, "geometry": True},
        {"molecules": [EXTXYZ.decode(), MOL.decode()], "unit": {"gap": "meV"}},
        {"molecule": "CC(=O)N"},
        {"molecule": water},
    ]
    return [json.dumps(body).encode() for body in bodies]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one to four changes: of bytes, numbers, words, lines, of its length, or of its order."""
    for _ in range(draw.randint(1, 4)):
        content = draw.choice(_CHANGES)(content, draw)
    return content


def _bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 4, 32)) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _number(content: bytes, draw: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d*)?", content))
    if not found:
        return content
    one = draw.choice(found)
    return content[: one.start()] + draw.choice(NUMBERS) + content[one.end() :]


def _word(content: bytes, draw: random.Random) -> bytes:
    place = draw.randint(0, len(content))
    return content[:place] + draw.choice(WORDS) + content[place + draw.choice((0, 0, 1, 8)) :]


def _end(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randint(0, len(content))]


def _part(content: bytes, draw: random.Random) -> bytes:
    start, stop = sorted(draw.randint(0, len(content)) for _ in range(2))
    return content[:start] + content[start:stop] * draw.choice((0, 2, 2, 50)) + content[stop:]


def _lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines[: draw.randint(1, len(lines))])


_CHANGES = (_bits, _bits, _number, _number, _number, _word, _word, _end, _part, _lines)
