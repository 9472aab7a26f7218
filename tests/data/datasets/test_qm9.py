import io
import tarfile

import numpy as np
import pytest

from molformer.data import datasets

WATER = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t-76.401867\t-76.400922\t-76.422349\t6.002\t
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 0.0015346341\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 6.8e-3\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO\t
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""  # noqa: E501 - as it was published
LISTED = WATER.replace("gdb 3\t", "gdb 58\t")
LAST = WATER.replace("gdb 3\t", "gdb 133885\t").replace("6.8e-3", "1.3*^-6").replace("O\tO\t", "N\t[OH2]\t")
UNCHARACTERIZED = """List of compounds that failed the consistency check
------
 Index  SMILES (GDB-9)  SMILES (Corina)
------
    58  C1CC1  C1CC1
   100  CCO    CCN

2 compounds
"""


def write_qm9(folder, *texts):
    path = folder / "dsgdb9nsd.xyz.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        for row, text in enumerate(texts or (WATER, LISTED, LAST), start=1):
            member = tarfile.TarInfo(f"dsgdb9nsd_{row:06}.xyz")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    (folder / "uncharacterized.txt").write_text(UNCHARACTERIZED)
    return path


def read(path):
    return list(datasets.read("qm9", path))


def test_a_molecule_as_it_was_published(tmp_path):
    first, _, last = read(write_qm9(tmp_path))
    water = first.structure
    assert (first.name, water.formula, water.smiles, water.group) == ("gdb 3", "H2O", "O", 3)
    assert np.allclose(water.pos[0], [-0.0343604951, 0.9775395708, 0.0076015923])
    assert np.allclose(water.labels["charges"], [-0.589706, 0.294853, 0.294853])
    expected = {"A": 799.58812, "mu": 1.8511, "alpha": 6.31, "homo": -0.2928, "gap": 0.3615, "r2": 19.0002}
    expected |= {"zpve": 0.021375, "u0": -76.404702, "g298": -76.422349, "cv": 6.002}
    assert {name: float(water.labels[name]) for name in expected} == expected
    assert set(water.labels) == {label.name for label in datasets.info("qm9").labels}
    assert last.structure.pos[2, 2] == 1.3e-6
    assert last.structure.smiles == "[OH2]"


def test_what_the_authors_list_is_an_entry_with_the_reason(tmp_path):
    _, listed, _ = read(write_qm9(tmp_path))
    assert listed.name == "gdb 58"
    assert listed.structure is None
    assert "listed in uncharacterized.txt" in str(listed.error)


def test_without_the_list_there_is_a_warning(tmp_path, caplog):
    path = write_qm9(tmp_path)
    path.with_name("uncharacterized.txt").unlink()
    assert all(entry.error is None for entry in read(path))
    assert "that it lists are included" in caplog.text
    path.with_name("uncharacterized.txt").write_text("404: not found")
    (entry,) = read(path)
    assert "is not the list of uncharacterized molecules" in str(entry.error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "three\n",
        WATER.replace("6.002", ""),
        WATER.replace("6.002", "six"),
        WATER.replace("O\t-0.03", "Qq\t-0.03"),
        WATER.replace("0.0076015923", ""),
        WATER.replace("0.0076015923", "nan"),
        WATER.replace("3\n", "5\n", 1),
        WATER.partition("1671")[0],
    ],
)
def test_a_broken_molecule_does_not_take_the_others_with_it(tmp_path, text):
    bad, good = read(write_qm9(tmp_path, text, WATER))
    assert bad.structure is None
    assert "dsgdb9nsd_000001.xyz" in str(bad.error)
    assert "\n" not in str(bad.error)
    assert good.structure is not None


def test_damaged_archives(tmp_path):
    path = write_qm9(tmp_path)
    content = path.read_bytes()
    for wrong in (b"", b"hello", content[: len(content) // 2]):
        path.write_bytes(wrong)
        entry = read(path)[-1]
        assert "dsgdb9nsd.xyz.tar.bz2" in str(entry.error)
        assert "\n" not in str(entry.error)
    path.unlink()
    (entry,) = read(path)
    assert "No such file" in str(entry.error)
    with tarfile.open(path, "w:bz2"):
        pass
    (entry,) = read(path)
    assert "holds no molecule of QM9" in str(entry.error)
