import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from molformer.data import datasets
from molformer.errors import InputError
from tests.data.datasets.test_qm9 import write_qm9


def test_every_data_set_says_what_it_is():
    assert {"qm9", "qm7", "md17/ethanol", "rmd17/aspirin", "moleculenet/tox21", "modelnet40"} <= set(datasets.names())
    for name in datasets.names():
        dataset = datasets.info(name)
        assert dataset.name == name
        assert dataset.title
        assert dataset.licence
        assert dataset.citation
        assert len({label.name for label in dataset.labels}) == len(dataset.labels) > 0
        for file in dataset.files:
            assert file.urls
            assert re.fullmatch(r"([0-9a-f]{32})?", file.md5)
            assert all(url.startswith(("https://", "http://")) for url in file.urls)


def test_files_of_different_data_sets_can_share_a_folder():
    names = [file.filename for name in datasets.names() for file in datasets.info(name).files]
    assert len(names) == len(set(names))


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(InputError, match=r"there is no data set 'rmd17/etanol'; some that there are: rmd17/ethanol"):
        datasets.info("rmd17/etanol")


@pytest.fixture
def tiny_qm9(tmp_path, server, monkeypatch):
    """QM9 of three molecules, served instead of the real one."""
    source = tmp_path / "source"
    source.mkdir()
    write_qm9(source)
    files = []
    for file in datasets.info("qm9").files:
        content = (source / file.filename).read_bytes()
        server.files[f"/{file.filename}"] = content
        url = f"{server.address}/{file.filename}"
        files.append(replace(file, urls=(url,), size=len(content), md5=hashlib.md5(content).hexdigest()))
    monkeypatch.setitem(datasets._ALL, "qm9", replace(datasets.info("qm9"), files=tuple(files)))
    return source


def test_fetch_and_read(tiny_qm9, tmp_path):
    path = datasets.fetch("qm9", tmp_path / "sets")
    assert path == tmp_path / "sets" / "dsgdb9nsd.xyz.tar.bz2"
    assert [entry.error is None for entry in datasets.read("qm9", path)] == [True, False, True]


def test_files_that_are_there_already_are_taken_instead_of_the_network(tiny_qm9, server, tmp_path):
    path = datasets.fetch("qm9", tmp_path / "sets", file=tiny_qm9 / "dsgdb9nsd.xyz.tar.bz2")
    assert server.ranges == []
    assert len(list(datasets.read("qm9", path))) == 3
    (tiny_qm9 / "uncharacterized.txt").unlink()
    datasets.fetch("qm9", tmp_path / "more", file=tiny_qm9 / "dsgdb9nsd.xyz.tar.bz2")
    assert len(server.ranges) == 1


def test_md17_and_rmd17(tmp_path):
    rng = np.random.default_rng(0)
    pos, energy, forces, numbers = rng.normal(size=(3, 2, 3)), rng.normal(size=3), rng.normal(size=(3, 2, 3)), [8, 1]
    np.savez(tmp_path / "md17.npz", R=pos, z=numbers, E=energy[:, None], F=forces)
    np.savez(tmp_path / "rmd17.npz", coords=pos, nuclear_charges=numbers, energies=energy, forces=forces)
    for name in ("md17", "rmd17"):
        entries = list(datasets.read(f"{name}/ethanol", tmp_path / f"{name}.npz"))
        assert [label.unit for label in datasets.info(f"{name}/ethanol").labels] == ["kcal/mol", "kcal/mol/Å"]
        assert np.allclose([entry.structure.labels["energy"] for entry in entries], energy)
        assert np.allclose([entry.structure.labels["forces"] for entry in entries], forces)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("esol", "Compound ID,measured log solubility in mols per litre,smiles\nethanol,1.1,CCO\n"),
        ("freesolv", "iupac,smiles,expt,calc\nethanol,CCO,1.1,2.0\n"),
        ("lipo", "CMPD_CHEMBLID,exp,smiles\nx,1.1,CCO\n"),
        ("bace", "mol,CID,Class,Model\nCCO,x,1,Train\n"),
        ("bbbp", "num,name,p_np,smiles\n1,ethanol,1,CCO\n"),
    ],
)
def test_moleculenet(tmp_path, name, table):
    path = tmp_path / "set.csv"
    path.write_text(table)
    (entry,) = datasets.read(f"moleculenet/{name}", path)
    assert entry.error is None
    assert entry.smiles == "CCO"
    (label,) = datasets.info(f"moleculenet/{name}").labels
    assert int(entry.labels[label.name]) == 1
