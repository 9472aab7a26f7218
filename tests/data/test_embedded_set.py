"""The data set that comes with the project: complete, undamaged and consistent with itself and with its method."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from molformer.data.store import StructureStore
from molformer.data.structure import Structure

FOLDER = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def store():
    return StructureStore(FOLDER / "gfn2")


def test_content_agrees_with_its_hash_and_the_readme_names_it(store):
    store.verify()
    assert store.manifest["sha256"] in (FOLDER / "README.md").read_text()
    assert store.path.stat().st_size <= 8e6


def test_no_molecule_was_dropped_silently(store):
    listed = [line.split()[0] for line in (FOLDER / "molecules.smi").read_text().splitlines()]
    with open(FOLDER / "failed.csv", newline="") as file:
        failed = list(csv.DictReader(file))
    assert all(row["reason"] for row in failed)
    kept = {structure.smiles for structure in store}
    lost = {row["smiles"] for row in failed if "distorted" not in row["name"]}
    assert len(listed) == len(set(listed))
    assert kept | lost == set(listed)
    assert not kept & lost


def test_labels_fit_each_other(store):
    columns = {name: store.column(name) for name in store.labels}
    assert np.allclose(columns["gap"], columns["lumo"] - columns["homo"], atol=1e-6)
    ends = store.column("ptr")[:-1]
    assert np.abs(np.add.reduceat(columns["charges"], ends)).max() < 1e-4
    assert np.abs(np.add.reduceat(columns["forces"], ends)).max() < 1e-2
    assert all(np.isfinite(column).all() for column in columns.values())


def test_copies_of_a_molecule_share_its_group(store):
    smiles = {}
    for index, group in enumerate(store.groups):
        smiles.setdefault(group, set()).add(store[index].smiles)
    assert all(len(members) == 1 for members in smiles.values())
    assert sum(np.bincount(store.groups) > 1) >= 250


def test_labels_are_what_the_script_computes(store):
    pytest.importorskip("tblite", reason="labels are made with tblite: pip install 'molformer[xtb]'")
    spec = importlib.util.spec_from_file_location("label_molecules", FOLDER / "label_molecules.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules["label_molecules"] = script
    spec.loader.exec_module(script)
    for index in (5, 300, len(store) - 1):
        kept = store[index]
        labels = script.label(Structure(kept.numbers, kept.pos)).labels
        for name, value in kept.labels.items():
            assert np.allclose(labels[name], value, atol=1e-4), name
