"""Weights & Biases, offline: what it gets, and that a resumed run is the same one."""

import json
from pathlib import Path

import numpy as np
import pytest

from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.training import tracking
from molformer.training.arguments import read_run
from molformer.training.run import train
from molformer.training.target_errors import Predicted, TargetErrors
from tests.helpers import small_config
from tests.training.test_run import training


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_resumed_run_is_the_same_run_and_everything_is_logged(store, tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    caplog.set_level("INFO", logger="molformer")
    folder = tmp_path / "run"
    train(small_config(num_layers=1), training(store, folder, targets=["gap"], epochs=1, wandb="auto"))
    said = [record.message for record in caplog.records if "W&B has no key and logs offline" in record.message]
    assert len(said) == 1
    run_id = (folder / "wandb_run_id").read_text().strip()
    train(*read_run(str(folder), ["--epochs", "2"]), resume=True)
    assert (folder / "wandb_run_id").read_text().strip() == run_id
    offline = list((folder / "wandb").glob("offline-run-*"))
    assert len(offline) == 2
    assert all(path.name.endswith(run_id) for path in offline)
    written = b"".join(path.read_bytes() for run in offline for path in run.glob("*.wandb"))
    for name in (b"val/loss", b"learning_rate", b"gradient_norm", b"molecules_per_second", b"memory_gb", b"worst/gap"):
        assert name in written, name
    assert f"model-{run_id}".encode() in written  # the artifact
    files = [path.name for run in offline for path in Path(run).rglob("*") if path.is_file()]
    assert any("parity_gap" in name for name in files)
    assert any("learning_curve" in name for name in files)
    assert any(name.endswith(".table.json") for name in files)


def test_off_is_off_and_a_missing_package_is_said(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "molformer")
    assert tracking.wandb_logger(tmp_path, "off", {}) is None
    assert caplog.messages == []
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    assert tracking.wandb_logger(tmp_path, "auto", {}) is None
    assert "pip install 'molformer[wandb]'" in caplog.text
    with pytest.raises(ConfigError, match=r"pip install 'molformer\[wandb\]', or --no-wandb"):
        tracking.wandb_logger(tmp_path, "online", {})


def test_the_worst_molecules_come_first():
    class Store:
        def __getitem__(self, index):
            return type("S", (), {"smiles": "C" * (index + 1), "name": f"row {index}"})

    label, prediction = np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.5, 9.0, 9.0, 4.1])
    row = TargetErrors(Label("gap", "eV", "intensive"), 3, 0.0)
    worst = tracking.worst_molecules(
        row, Predicted({"gap": (prediction, label)}, np.ones(4)), Store(), np.arange(4) + 5
    )
    assert [cells[1] for cells in worst] == ["row 7", "row 5", "row 8"]
    assert worst[0] == ("C" * 8, "row 7", 3.0, 9.0, 6.0)
    assert json.dumps(worst)
