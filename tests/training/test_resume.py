"""A run that was killed goes on and ends with the numbers of one that was not."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from molformer.errors import ConfigError, TrainingError
from molformer.models import PropertyModel
from molformer.training.arguments import read_run
from molformer.training.run import train
from tests.helpers import small_config
from tests.training.test_run import training

MEASURED = ("seconds", "molecules_per_second", "memory_gb")

KILLED = """
import os, signal, sys
from lightning import Callback
from molformer.training.run import train
from tests.helpers import small_config
from tests.training.test_run import training

class Kill(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)

settings = {settings}
train(small_config(num_layers=1, stochastic_depth=0.3), training({store!r}, {folder!r}, **settings), Kill())
"""

SETTINGS = {"epochs": 4, "targets": ["energy", "gap"], "noise": 0.05, "accumulate": 2, "epoch_size": 30}


def rows_of(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def killed(store, tmp_path_factory):
    """A run folder whose process was killed in the middle of its third epoch, by `kill -9`."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    code = KILLED.format(settings=SETTINGS, store=store, folder=str(folder))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder


def test_a_killed_run_goes_on_with_the_same_numbers_bit_for_bit(killed, store, tmp_path):
    assert [row["epoch"] for row in rows_of(killed)] == ["0", "1"]
    config = small_config(num_layers=1, stochastic_depth=0.3)
    whole = train(config, training(store, tmp_path / "whole", **SETTINGS))
    resumed = train(*read_run(str(killed)), resume=True)
    assert rows_of(resumed.folder) == rows_of(whole.folder)
    one, other = (PropertyModel.load(result.model).state_dict() for result in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert [row.error for row in resumed.errors] == [row.error for row in whole.errors]
    assert resumed.epochs == whole.epochs == 4
    last = [torch.load(result.folder / "last.ckpt", weights_only=True) for result in (whole, resumed)]
    assert all(
        torch.equal(last[0]["current_model_state"][key], last[1]["current_model_state"][key])
        for key in last[0]["current_model_state"]
    )


def test_the_card_of_a_run_resumed_elsewhere_states_hardware_and_command(store, tmp_path):
    folder = tmp_path / "run"
    result = train(small_config(num_layers=1), training(store, folder, targets=["gap"], epochs=1))
    assert f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}" in card_of(result)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["callbacks"]["Monitor"]["machine"] = "a card of another machine"
    torch.save(checkpoint, folder / "last.ckpt")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"command": "molformer train first.yaml"}))
    card = card_of(train(*read_run(str(folder)), resume=True))
    assert "on a card of another machine, 1 process(es)" in card
    assert "```sh\nmolformer train first.yaml\n```" in card
    del checkpoint["callbacks"]["Monitor"]["machine"]  # as an older version wrote it
    torch.save(checkpoint, folder / "last.ckpt")
    assert "an older version did not note" in card_of(train(*read_run(str(folder)), resume=True))


def card_of(result):
    return (result.model / "README.md").read_text()


def test_a_finished_run_can_be_made_longer(store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1)
    train(small_config(num_layers=1), settings)
    longer = train(*read_run(str(tmp_path / "run"), ["--epochs", "3"]), resume=True)
    assert longer.epochs == 3
    assert [row["epoch"] for row in rows_of(longer.folder)] == ["0", "1", "2"]


def test_what_cannot_go_on_is_refused(store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1)
    folder = train(small_config(num_layers=1), settings).folder
    with pytest.raises(ConfigError, match=r"it has no config\.yaml"):
        read_run(str(tmp_path))
    with pytest.raises(ConfigError, match="seed cannot be changed on resumption"):
        read_run(str(folder), ["--seed", "3"])
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"data_sha256": "0"}))
    with pytest.raises(ConfigError, match="have changed since the run began"):
        train(*read_run(str(folder)), resume=True)
    (folder / "run.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ConfigError, match="run format 99"):
        train(*read_run(str(folder)), resume=True)


FULL_DISK = """
import resource, signal
from lightning import Callback
from molformer.errors import TrainingError
from molformer.training.run import train
from tests.helpers import small_config
from tests.training.test_run import training

class Fill(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:  # from now on no file can grow beyond 4 kB, as on a full disk
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

try:
    train(small_config(num_layers=1), training({store!r}, {folder!r}, targets=["gap"], epochs=3), Fill())
except TrainingError as error:
    print(error)
"""


def test_a_full_disk_is_a_clear_error_and_the_checkpoint_before_stays_whole(store, tmp_path):
    folder = tmp_path / "run"
    code = FULL_DISK.format(store=store, folder=str(folder))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout
    assert f"--resume {folder}" in done.stdout
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not list(folder.glob(".*.part"))
    assert train(*read_run(str(folder)), resume=True).epochs == 3


def test_a_folder_that_cannot_be_written_is_said_at_once(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        train(small_config(), training(store, tmp_path / "file" / "run"))


def test_running_out_of_memory_says_what_to_change(store, tmp_path):
    from lightning import Callback

    class Hungry(Callback):
        def on_train_start(self, trainer, pl_module):
            torch.empty(1 << 50, dtype=torch.uint8)

    with pytest.raises(TrainingError, match="out of memory: --batch_size 4 --accumulate 2 is the same step"):
        train(small_config(num_layers=1), training(store, tmp_path / "run", targets=["gap"]), progress=Hungry())
