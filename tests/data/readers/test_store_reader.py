"""A structure store among other inputs."""

import numpy as np

from molformer.data.importing import import_inputs
from molformer.data.readers import read_input
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure

GAP = Label("gap", "meV", "intensive")


def small_store(folder):
    water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], smiles="O", labels={"gap": 9.0}, group=3)
    return write_store(folder / "water", [water], [GAP]).path


def test_entries_have_structures_and_labels(tmp_path):
    (entry,) = read_input(str(small_store(tmp_path)))
    assert entry.structure.formula == "H2O"
    assert entry.structure.labels["gap"] == 9.0
    assert entry.name == "O"


def test_it_is_imported_beside_a_list_of_smiles_with_its_labels(tmp_path):
    path = small_store(tmp_path)
    (tmp_path / "more.csv").write_text("smiles\nCO\nCC\n")
    result = import_inputs([str(tmp_path / "more.csv"), str(path)], tmp_path / "both")
    assert result.rejected == 0
    assert result.store.label("gap") == GAP
    assert [structure.formula for structure in result.store] == ["CH4O", "C2H6", "H2O"]
    assert np.isnan(result.store.column("gap")).tolist() == [True, True, False]


def test_a_damaged_store_is_an_entry_with_an_error(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (entry,) = read_input(str(path))
    assert "broken.safetensors" in str(entry.error)
