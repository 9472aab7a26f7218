"""The recipe of the pretrained model, on a handful of molecules."""

import json

import numpy as np
import pytest

from molformer.data.conformers import embed_smiles
from molformer.data.splits import SplitPolicy, make_split
from molformer.data.store import write_store
from molformer.models import SE3TransformerConfig
from molformer.training.config import TrainingConfig
from molformer.training.run import train
from recipes import qm9, trials

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


def test_each_molecule_is_followed_by_its_force_field_geometry(store, tmp_path):
    both = list(qm9.with_force_field(store, tmp_path / "cache", processes=0))
    assert len(both) == 2 * len(SMILES)
    for given, copy in zip(both[::2], both[1::2], strict=True):
        assert (given.geometry, copy.geometry) == ("given", "etkdg+mmff")
        assert given.group == copy.group
        assert np.array_equal(np.sort(given.numbers), np.sort(copy.numbers))
        assert given.labels["homo"] == copy.labels["homo"]


def test_errors_are_reported_by_geometry_and_shipped_with_the_model(store, tmp_path):
    path = tmp_path / "both.safetensors"
    both = write_store(path, qm9.with_force_field(store, tmp_path / "cache", processes=0), qm9.LABELS)
    config = TrainingConfig(
        data=str(path),
        targets=["homo", "alpha"],
        run=str(tmp_path / "run"),
        split=[6, 2, 2],
        epochs=1,
        batch_size=4,
        wandb="off",
    )
    result = train(SE3TransformerConfig(lmax=1, channels=8, num_layers=1, num_heads=2), config)
    errors = qm9.errors_by_geometry(result.model, both, SplitPolicy(fractions=(6, 2, 2)))
    assert [row.count for row in errors["given"]] == [row.count for row in errors["etkdg+mmff"]] == [2, 2]
    table = qm9.table_of(errors)
    assert "| target | unit | molecules | MAE, DFT geometry | MAE, force-field geometry |" in table
    qm9.ship(result.model, table, tmp_path / "qm9")
    card = (tmp_path / "qm9" / "README.md").read_text()
    assert table in card
    assert "## What was tried" in card
    assert 'molformer.load("qm9")' in card
    assert (tmp_path / "qm9" / "model.safetensors").is_file()


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
