"""The recipe of the pretrained model, on a handful of molecules."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.splits import SplitPolicy, make_split
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Structure
from molformer.inference import Predictor
from molformer.models import SE3TransformerConfig
from molformer.training.config import TrainingConfig
from molformer.training.run import train
from recipes import qm9, qm9_evaluation, qm9_geometries, trials
from recipes.qm9_geometries import aligned, relaxed_geometries, rmsd

SMILES = ("C", "O", "N", "CO", "CC", "C=O", "CN", "C#N", "CCO", "C1CC1")
NAMES = ("homo", "lumo", "gap", "mu", "alpha", "zpve", "r2", "cv", "u0", "u298", "h298", "g298", "eat_g4mp2")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A file of the layout of QM9's; labels are made up but for methane's energies."""
    molecules = [embed_smiles(smiles) for smiles in SMILES]
    targets = np.random.default_rng(0).normal(size=(len(SMILES), len(NAMES)))
    targets[0, NAMES.index("u0")], targets[0, NAMES.index("h298")] = -40.47893, -40.475117
    targets[1, NAMES.index("zpve")] = np.nan
    path = tmp_path_factory.mktemp("qm9") / "qm9.npz"
    np.savez(
        path,
        positions=np.concatenate([molecule.pos for molecule in molecules]),
        numbers=np.concatenate([molecule.numbers for molecule in molecules]).astype(np.uint8),
        offsets=np.cumsum([0, *(len(molecule) for molecule in molecules)]),
        smiles=np.array([smiles.encode() for smiles in SMILES]),
        gdb_index=np.arange(1, len(SMILES) + 1),
        targets=targets,
        target_names=np.array(NAMES),
    )
    return path


@pytest.fixture(scope="module")
def store(raw, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "qm9.safetensors", qm9.molecules(raw), qm9.LABELS)


def test_energies_become_atomisation_energies_in_ev(store):
    methane, water = store[0], store[1]
    assert methane.labels["u0_atom"] == pytest.approx(-17.172, abs=1e-3)  # as published
    assert methane.labels["h298_atom"] == pytest.approx(-17.389, abs=1e-3)
    assert np.isnan(water.labels["zpve"])
    assert store.label("homo").unit == "eV"
    assert methane.smiles == "C"


PARTS = SplitPolicy(fractions=(6, 2, 2))


@pytest.fixture(scope="module")
def stores(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("geometries")
    paths = qm9.make_stores(raw, folder, processes=0, split=PARTS, smiles=3, gfn2=(1, 1))
    return [StructureStore(path) for path in paths]


def test_the_same_conformer_is_relaxed_and_its_displacements_lead_back(stores):
    relaxed, everything = stores
    assert relaxed.manifest["geometries"] == ["given", "mmff"]
    assert everything.manifest["geometries"] == ["given", "mmff", "etkdg+mmff", "gfn2"]
    given = {each.group: each for each in everything if each.geometry == "given"}
    assert list(given) == list(range(len(SMILES)))
    moved = {"mmff": 0, "gfn2": 0}
    for each in everything:
        reference = given[each.group]
        assert np.array_equal(each.labels["homo"], reference.labels["homo"])
        if each.geometry == "etkdg+mmff" or (each.geometry == "given" and each.group % qm9.FIXED_POINTS):
            assert np.isnan(each.labels["displacement"]).all()
            continue
        assert np.array_equal(each.numbers, reference.numbers)
        assert each.pos + each.labels["displacement"] == pytest.approx(reference.pos, abs=1e-6)
        if each.geometry != "given":
            moved[each.geometry] += 1
            assert rmsd(each.pos, reference.pos) < rmsd(aligned(each.pos, reference.pos), reference.pos) + 1e-6
    assert moved == {"mmff": len(SMILES), "gfn2": 3}


def test_further_geometries_do_not_change_the_split(store, stores):
    policy = SplitPolicy(fractions=(6, 2, 2))
    plain, everything = (make_split(each, policy) for each in (store, stores[1]))
    for part in ("train", "val", "test"):
        assert np.array_equal(np.unique(stores[1].groups[getattr(everything, part)]), getattr(plain, part))
    of_smiles = np.asarray(stores[1].column("geometry")) == 2
    assert {*plain.val, *plain.test} < {*stores[1].groups[of_smiles]}
    assert of_smiles.sum() == 7


def test_finished_parts_are_not_relaxed_again(store, tmp_path, monkeypatch):
    once = list(relaxed_geometries(store, [0, 3], "mmff", tmp_path, 0))
    monkeypatch.setattr(qm9_geometries, "relaxed", lambda *_: pytest.fail("it was done again"))
    again = list(relaxed_geometries(store, [0, 3], "mmff", tmp_path, 0))
    assert [each.pos.tolist() for each in again] == [each.pos.tolist() for each in once]


def test_atoms_are_matched_and_another_conformer_is_left_out():
    acid = embed_smiles("OC(=O)CN")
    order = np.random.default_rng(0).permutation(len(acid))
    shuffled = Structure(acid.numbers[order], acid.pos[order], smiles="NCC(O)=O", group=5)
    end = qm9_geometries.relaxed("mmff", shuffled)
    assert (end.geometry, end.group) == ("mmff", 5)
    assert rmsd(end.pos, shuffled.pos) < 0.01  # it was relaxed already
    assert "bonds of the SMILES" in qm9_geometries.relaxed("mmff", replace(shuffled, smiles="NCC(=O)N"))
    eclipsed = embed_smiles("CCCO", ConformerPolicy(method="etkdg"))
    assert isinstance(qm9_geometries.relaxed("mmff", eclipsed), Structure)


def test_alignment_is_a_rotation_and_no_reflection():
    pos = np.random.default_rng(1).normal(size=(5, 3))
    rotation = Rotation.from_rotvec([0.3, -1.0, 2.0]).as_matrix()
    assert aligned(pos @ rotation.T + 4.0, pos) == pytest.approx(pos)
    mirrored = aligned(-pos, pos)
    assert rmsd(mirrored, pos) > 0.1
    flat = pos * [1, 1, 0]
    assert aligned(flat @ rotation.T, flat) == pytest.approx(flat)


def test_errors_are_reported_by_geometry_and_shipped_with_the_model(stores, tmp_path, monkeypatch):
    config = TrainingConfig(
        data=str(stores[1].path),
        targets=["homo", "alpha", "displacement"],
        run=str(tmp_path / "run"),
        split=[6, 2, 2],
        epochs=1,
        batch_size=4,
        wandb="off",
    )
    result = train(SE3TransformerConfig(lmax=1, channels=8, num_layers=1, num_heads=2), config)
    monkeypatch.setattr(qm9_evaluation, "XTB", 1)
    predictor = Predictor.load(result.model, "cpu")
    columns = qm9_evaluation.evaluate(predictor, stores[1], PARTS, count=2, conformers=(1, 2))
    same = ["DFT conformer, MMFF94", "DFT conformer, MMFF94, refined", "DFT conformer, GFN2-xTB"]
    smiles = [f"SMILES, {number} × {geometry}" for number in (1, 2) for geometry in ("etkdg", "refined")]
    assert list(columns) == ["DFT", *same, "DFT conformer, GFN2-xTB, refined", *smiles, "SMILES, 1 × xtb (1)"]
    assert all(set(column.errors) == {"homo", "alpha"} for column in columns.values())
    assert [len(columns[name].errors["homo"]) for name in ("DFT", same[0], same[2], smiles[3])] == [2, 2, 1, 2]
    assert np.abs(columns["DFT"].rmsd).max() < 1e-6
    assert 0 < np.nanmean(columns[same[0]].rmsd) < 0.3
    table = qm9_evaluation.table_of(columns, qm9_evaluation.scalars(predictor))
    assert "| geometry | heavy atoms, Å | all atoms, Å | s | homo, eV | alpha, a0^3 |" in table
    assert "| labelled molecules | | | | 2 | 2 |" in table
    qm9.ship(result.model, table, tmp_path / "qm9")
    card = (tmp_path / "qm9" / "README.md").read_text()
    assert table in card
    assert "## What was tried" in card
    assert 'molformer.load("qm9")' in card
    shipped = Predictor.load(tmp_path / "qm9", "cpu").model
    assert (shipped.domain.conformers, shipped.domain.geometry) == (qm9.CONFORMERS, qm9.GEOMETRY)


def test_a_trial_has_its_time_does_not_look_at_test_molecules_and_is_not_done_again(store, tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_text(
        "targets: [homo, alpha]\nlmax: 1\nchannels: 8\nnum_layers: 1\nnum_heads: 2\nbatch_size: 2\nwandb: 'off'\n"
    )
    monkeypatch.setattr(trials, "CONFIG", str(config))
    monkeypatch.setattr(trials, "TRIALS", {"2 layers": ["--num_layers=2"]})
    monkeypatch.setattr(trials, "SPLIT", (6, 3, 1))
    monkeypatch.setattr(trials, "TIMED", 5)
    trials.write_splits(store, tmp_path)
    given = make_split(store, SplitPolicy(fractions=(6, 3, 1)))
    for name in ("split", "few"):
        parts = json.loads((tmp_path / f"{name}.json").read_text())
        assert parts["train"] == given.train.tolist()
        assert set(parts["val"] + parts["test"]) <= set(given.val.tolist())
    trial = trials.run_trial("2 layers", store.path, tmp_path, minutes=0.02)
    assert 0.005 < trial.minutes < 0.08
    assert trial.seen > 20
    assert trial.homo > 0
    assert f"| {trial.seen:,} |" in trials.row("2 layers", trial)
    monkeypatch.setattr(trials, "fit", lambda *_: pytest.fail("it was done again"))
    assert trials.run_trial("2 layers", store.path, tmp_path, minutes=0.02) == trial
