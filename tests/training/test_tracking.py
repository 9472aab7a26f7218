"""Weights & Biases, offline: what it gets, and that a resumed run is the same one."""

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from molformer.data.store import StructureStore
from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.training import tracking
from molformer.training.arguments import read_run
from molformer.training.monitor import read_metrics
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
    offline = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(offline) == 2
    assert all(path.name.endswith(run_id) for path in offline)
    records = [record for run in offline for record in finished_records(next(run.glob("*.wandb")))]
    config = {item.key: json.loads(item.value_json) for record in records for item in record.run.config.update}
    assert (config["epochs"], config["targets"]) == (2, ["gap"])
    assert {record.run.run_id for record in records if record.HasField("run")} == {run_id}
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    names = {name for row in rows for name in row}
    assert names >= {"val/loss", "learning_rate", "gradient_norm", "molecules_per_second", "memory_gb"}
    metrics = read_metrics(folder / "metrics.csv")
    assert [row["val/loss"] for row in rows if "val/loss" in row] == pytest.approx([row["val/loss"] for row in metrics])
    assert next(row["worst/gap/ncols"] for row in rows if "worst/gap/ncols" in row) == 7
    artifacts = {record.artifact.type: record.artifact for record in records if record.HasField("artifact")}
    assert any(entry.path.endswith(".sdf") for entry in artifacts["run_table"].manifest.contents)
    artifact = artifacts["model"]
    assert artifact.name == f"model-{run_id}"
    assert json.loads(artifact.metadata)["sha256"] == StructureStore(store).manifest["sha256"]
    assert {"config.json", "model.safetensors"} <= {entry.path for entry in artifact.manifest.contents}
    files = [path.name for run in offline for path in Path(run).rglob("*") if path.is_file()]
    assert any("parity_gap" in name for name in files)
    assert any("learning_curve" in name for name in files)
    assert any(name.endswith(".table.json") for name in files)


def read_offline(path):
    """Records of an offline run: W&B's messages in a log of blocks of 32 KiB, cut into pieces of type 1 to 4 (whole,
    first, middle, last) with a header of checksum, length and type each."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, message = path.read_bytes(), 7, b""
    records = []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            records.append(Record.FromString(message))
            message = b""
    return records


def finished_records(path):
    """Records of a run that was finished; W&B's own process writes the last of them after `finish` has returned."""
    for _ in range(100):
        records = read_offline(path)
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{path} was not finished")


def test_members_and_folds_are_grouped(tmp_path):
    settings = {"data": "data/mols.csv", "folds": 0, "seed": 3}
    assert tracking._group(tmp_path / "run", settings) is None
    assert tracking._group(tmp_path / "run" / "member-2", settings) == "run"
    assert tracking._group(tmp_path / "run", settings | {"folds": 5}) == "mols: 5 folds, seed 3"


@pytest.mark.parametrize("offline", [True, False])
def test_data_and_initial_model_are_inputs_where_there_is_a_server(store, tmp_path, offline):
    (tmp_path / "first" / "model").mkdir(parents=True)
    (tmp_path / "first" / "wandb_run_id").write_text("abc\n")
    used = []
    run = SimpleNamespace(
        offline=offline, config={"initial": str(tmp_path / "first" / "model")}, use_artifact=used.append
    )
    tracking._log_inputs(SimpleNamespace(experiment=run), StructureStore(store))
    if offline:
        assert used == []
    else:
        assert used[0].metadata["structures"] == len(StructureStore(store))
        assert used[1] == "model-abc:latest"


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
    assert [one.name for one in worst] == ["row 7", "row 5", "row 8"]
    assert worst[0] == (7, "C" * 8, "row 7", 3.0, 9.0, 6.0)
    assert json.dumps(worst)
