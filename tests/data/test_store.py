import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.conformers import embed_smiles
from molformer.data.datamodule import StoreDataset
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.errors import InputError, StoreError
from molformer.graph import GraphBatch
from molformer.molecular_graph import MolecularGraph
from tests.helpers import random_structure

LABELS = [
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
    Label("forces", "eV/Å", "forces"),
]


def structures():
    for index, atoms in enumerate((3, 1, 7)):
        random = np.random.default_rng(index)
        labels = {
            "gap": random.normal(),
            "dipole": random.normal(size=3),
            "charges": random.normal(size=atoms),
            "forces": random.normal(size=(atoms, 3)),
        }
        named = {"smiles": "Cé", "name": f"row {index}", "group": 5}
        yield random_structure(atoms, seed=index, charge=index - 1, spin=index + 1, labels=labels, **named)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "set", structures(), LABELS, source="made here")


def test_round_trip(store):
    assert len(store) == 3
    for read, written in zip(store, structures(), strict=True):
        assert np.array_equal(read.numbers, written.numbers)
        assert np.allclose(read.pos, written.pos, atol=1e-6)
        for field in ("charge", "spin", "smiles", "name", "geometry", "group"):
            assert getattr(read, field) == getattr(written, field)
        for name, value in written.labels.items():
            assert np.allclose(read.labels[name], value, atol=1e-6)
    assert store[-1].name == "row 2"
    assert store.manifest["source"] == "made here"
    assert store.sizes.tolist() == [3, 1, 7]


def test_a_missing_label_is_nan(tmp_path):
    store = write_store(tmp_path / "set", [random_structure(2)], LABELS)
    assert np.isnan(store[0].labels["gap"])
    assert np.isnan(store[0].labels["forces"]).all()
    assert store[0].labels["forces"].shape == (2, 3)


def test_same_content_same_hash(tmp_path, store):
    again = write_store(tmp_path / "again", structures(), LABELS)
    assert again.manifest["sha256"] == store.manifest["sha256"]
    other = write_store(tmp_path / "other", list(structures())[:2], LABELS)
    assert other.manifest["sha256"] != store.manifest["sha256"]


def test_a_failed_write_leaves_the_old_store_and_nothing_else(tmp_path, store):
    before = store.path.read_bytes()

    def broken():
        yield random_structure(2)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_store(store.path, broken(), LABELS)
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["set.safetensors"]


def test_damage_is_detected(tmp_path, store):
    content = store.path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-10])
    with pytest.raises(StoreError, match="damaged or not a store"):
        StructureStore(tmp_path / "cut")
    (tmp_path / "flipped.safetensors").write_bytes(content[:-10] + b"0123456789")
    with pytest.raises(StoreError, match="differs from its hash"):
        StructureStore(tmp_path / "flipped").verify()
    store.verify()


def test_foreign_and_missing_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(StoreError, match="there is no store at"):
        StructureStore(tmp_path / "nothing")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(StoreError, match="damaged or not a store"):
        StructureStore(tmp_path / "text")
    save_file({"x": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(StoreError, match="not a molformer store"):
        StructureStore(tmp_path / "foreign")


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("molformer.data.store.FORMAT", 3)
    path = write_store(tmp_path / "set", [random_structure(2)]).path
    monkeypatch.setattr("molformer.data.store.FORMAT", 2)
    with pytest.raises(StoreError, match="install a newer molformer"):
        StructureStore(path)


def test_a_label_of_the_wrong_shape_is_refused(tmp_path):
    wrong = random_structure(3, labels={"dipole": np.zeros(2)}, name="row 9")
    with pytest.raises(InputError, match=r"row 9: label 'dipole' has shape \(2,\)"):
        write_store(tmp_path / "set", [wrong], LABELS)


def test_an_unknown_label_is_named_with_the_known_ones(store):
    with pytest.raises(StoreError, match="has no label 'energy'; its labels: gap, dipole"):
        store.label("energy")


def test_a_worker_process_opens_the_file_anew(store):
    again = pickle.loads(pickle.dumps(store))
    assert again[1].name == "row 1"


def test_structures_without_a_group_are_alone(tmp_path):
    members = [random_structure(2, group=group) for group in (0, -1, 0, -1)]
    groups = write_store(tmp_path / "set", members).groups
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_an_unwritable_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*/file/set"):
        write_store(tmp_path / "file" / "set", [Structure([1], [[0, 0, 0]])])


def test_cells_and_features_are_kept_where_they_are(tmp_path):
    cell = np.diag([3.0, 4.0, 5.0])
    members = [
        random_structure(2),
        random_structure(3, cell=cell, pbc=(True, False, True)),
        random_structure(4, features=np.arange(8.0).reshape(4, 2)),
    ]
    store = write_store(tmp_path / "set", members)
    assert store[0].cell is None
    assert np.array_equal(store[1].cell, cell)
    assert store[1].pbc == (True, False, True)
    assert store[1].features is None
    assert np.array_equal(store[2].features, members[2].features)
    assert {"cell", "pbc", "features"} <= set(store.columns)
    assert not {"cell", "pbc", "features"} & set(write_store(tmp_path / "bare", members[:1]).columns)
    with pytest.raises(InputError, match=r"features of shape .3,., where the structures before have .2,."):
        write_store(tmp_path / "mixed", [members[2], random_structure(2, features=np.zeros((2, 3)))])


def test_a_stress_belongs_to_a_periodic_structure(tmp_path):
    label = Label("stress", "GPa", "stress")
    stress = np.arange(9.0).reshape(3, 3)
    crystal = random_structure(4, cell=9 * np.eye(3), labels={"stress": stress})
    missing = random_structure(4, labels={"stress": np.full((3, 3), np.nan)})
    store = write_store(tmp_path / "set", [crystal, missing], [label])
    assert np.array_equal(store[0].labels["stress"], stress)
    assert np.isnan(store[1].labels["stress"]).all()
    slab = random_structure(4, cell=9 * np.eye(3), pbc=(True, True, False), name="slab", labels={"stress": stress})
    for bad in (slab, random_structure(4, labels={"stress": stress})):
        with pytest.raises(InputError, match="'stress' is a stress, which a structure has that is periodic in three"):
            write_store(tmp_path / "bad", [bad], [label])


def test_a_molecule_far_from_the_origin_keeps_its_geometry(tmp_path):
    near = random_structure(5)
    store = write_store(tmp_path / "set", [replace(near, pos=near.pos + 1e8)])
    pos = store[0].pos
    assert np.allclose(pos - pos[0], near.pos - near.pos[0], atol=1e-6)


def test_any_changed_byte_is_found_and_no_error_is_another(tmp_path, store):
    content = store.path.read_bytes()
    path = tmp_path / "changed.safetensors"
    for place in range(0, len(content), 7):
        for flip in (1, 32, 255):
            path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            with pytest.raises(StoreError) as caught:
                StructureStore(path).verify()
            assert "\n" not in str(caught.value)


def without_header_hash(store, changes):
    """The file of a store as versions before the hash of the header wrote it, with a changed manifest."""
    content = store.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["molformer.store"])
    del manifest["header_sha256"]
    header["__metadata__"]["molformer.store"] = json.dumps({**manifest, **changes})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_a_store_of_an_earlier_version_opens_and_is_checked_all_the_same(tmp_path, store):
    path = tmp_path / "old.safetensors"
    path.write_bytes(without_header_hash(store, {}))
    old = StructureStore(path)
    old.verify()
    assert [each.name for each in old] == [each.name for each in store]
    gap, *others = store.manifest["labels"]
    for changes, message in (
        ({"structures": 4}, "does not fit"),
        ({"atoms": 10}, "does not fit"),
        ({"geometries": []}, "origin of its geometry"),
        ({"elements": ["Qq"]}, "damaged"),
        ({"labels": [{**gap, "kind": "vector"}, *others]}, "label.gap"),
        ({"labels": [{**gap, "unit": "eW"}, *others]}, "unknown unit"),
        ({"labels": [{**gap, "kinds": "vector"}, *others]}, "damaged"),
        ({"labels": 3}, "damaged"),
        ({"format": "x"}, "damaged"),
    ):
        path.write_bytes(without_header_hash(store, changes))
        with pytest.raises(StoreError, match=message):
            StructureStore(path)


def test_an_error_inside_does_not_end_an_iteration(store, monkeypatch):
    monkeypatch.setattr(type(store), "_text", lambda *_: [][0])
    with pytest.raises(IndexError):
        list(store)


@pytest.mark.parametrize(
    ("column", "message"), [("ptr", "offsets 'ptr'"), ("name.ptr", "offsets"), ("geometry", "origin")]
)
def test_offsets_and_indices_that_are_none_are_refused_when_it_is_opened(tmp_path, store, column, message):
    content = bytearray(store.path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])[column]
    start, size = 8 + length + entry["data_offsets"][0], 8 if column.endswith("ptr") else 1
    content[start + size : start + 2 * size] = (200).to_bytes(size, "little")
    path = tmp_path / "changed.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        StructureStore(path)


def test_what_the_system_says_while_a_store_is_written_is_one_line(tmp_path):
    def structures():
        yield random_structure(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"cannot write '.*set.safetensors': No space left"):
        write_store(tmp_path / "set", structures())
    with pytest.raises(StoreError, match=r"cannot write '.*set.safetensors': File name too long"):
        write_store(tmp_path / "set", [], [Label("y" * 300, "", "intensive")])
    assert list(tmp_path.iterdir()) == []


def graphs_of(structures):
    return [each.molecular_graph for each in structures]


def test_molecular_graphs_are_kept_where_they_are(tmp_path):
    members = [
        random_structure(2),
        embed_smiles("C[NH3+]"),
        random_structure(3),
        embed_smiles("[Na+]"),
        embed_smiles("O"),
    ]
    store = write_store(tmp_path / "set", members)
    store.verify()
    for read, written in zip(graphs_of(store), graphs_of(members), strict=True):
        assert (read is None) == (written is None)
        for name in ("atom_features", "bonds", "bond_features") if written is not None else ():
            assert np.array_equal(getattr(read, name), getattr(written, name))
    assert write_store(tmp_path / "again", members).manifest["sha256"] == store.manifest["sha256"]


def test_a_batch_of_a_store_is_that_of_its_structures(tmp_path):
    members = [embed_smiles("C[NH3+]"), random_structure(2), embed_smiles("[CH3]"), embed_smiles("C1CC1")]
    store = write_store(tmp_path / "set", members)
    chosen = [3, 0, 1, 2]
    batch = StoreDataset(store, np.arange(4), [])[chosen]
    expected = vars(GraphBatch.from_structures([members[index] for index in chosen]))
    for name, value in vars(batch).items():
        assert torch.equal(value, expected[name]) if isinstance(value, torch.Tensor) else value == expected[name], name


def test_a_store_without_any_graph_has_no_column_of_them(tmp_path):
    store = write_store(tmp_path / "set", [random_structure(2)])
    assert not {"bonds", "bonds.ptr", "atom_features", "bond_features"} & set(store.columns)
    assert StoreDataset(store, np.arange(1), [])[[0]].atom_features is None


@pytest.mark.parametrize("end", [-1, 3])
def test_a_bond_of_an_atom_that_is_not_there_is_damage(tmp_path, end):
    water = embed_smiles("O")
    graph = MolecularGraph(water.molecular_graph.atom_features, [[0, 1], [0, end]], np.ones((2, 3)))
    water = water.annotated()
    object.__setattr__(water, "molecular_graph", graph)
    with pytest.raises(StoreError, match="a bond is one of an atom that is not there"):
        write_store(tmp_path / "set", [water])


def test_bounds_are_labels_from_the_first_structure_that_has_one(tmp_path):
    values = [{"gap": 1.0}, {"gap": np.nan, "gap>": 5.0}, {"gap": np.nan, "gap<": np.nan}, {"gap": np.nan, "gap>": 3.0}]
    gap = Label("gap", "eV", "intensive")
    store = write_store(tmp_path / "set", [random_structure(2, labels=each) for each in values], [gap])
    assert list(store.labels.values()) == [gap, Label("gap>", "eV", "intensive")]
    assert np.array_equal(store.column("gap>"), [np.nan, 5, np.nan, 3], equal_nan=True)
    (batch,) = [StoreDataset(store, np.arange(4), [gap])[range(4)]]
    assert sorted(batch.labels) == ["gap", "gap>"]
