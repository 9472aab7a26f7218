"""The folder of a run: name, metadata, consistency checks on resumption, and log file.

It holds `config.yaml` (every setting), `split.json`, `run.json` (hash of the data, versions, command), `model/` (best
weights and model card), `last.ckpt` (for resumption), `metrics.csv`, `test_predictions.csv`, `plots/`,
`train.log` and, with W&B, `wandb_run_id`.
"""

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

from molformer.data.datamodule import StoreDataModule
from molformer.data.drafts import writing
from molformer.data.splits import write_split
from molformer.errors import ConfigError
from molformer.models.config import SE3TransformerConfig
from molformer.training.config import TrainingConfig
from molformer.training.distributed import writes_files
from molformer.training.monitor import EPOCHS_LOG
from molformer.version import __version__

FORMAT = 1  # version of the format of run folders; newer ones are refused

_FOLDER_OF_RANK_ZERO = "MOLFORMER_RUN"  # passes the folder to the processes that Lightning starts


def choose_folder(training: TrainingConfig) -> Path:
    """The run folder: as configured, or a new one named after data and targets."""
    if training.run:
        return Path(training.run)
    if not writes_files():
        if _FOLDER_OF_RANK_ZERO not in os.environ:
            raise ConfigError("set the run folder by --run if processes are started externally")
        return Path(os.environ[_FOLDER_OF_RANK_ZERO])
    first = training.data if isinstance(training.data, str) else training.data[0]
    words = [Path(first).name.split(".")[0], *training.target_names[:3]]
    name = "-".join("".join(letter if letter.isalnum() else "_" for letter in word) for word in words)
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    os.environ[_FOLDER_OF_RANK_ZERO] = str(folder)
    return folder


def start_folder(folder: Path, encoder: SE3TransformerConfig, training: TrainingConfig, data: StoreDataModule) -> None:
    """Write settings, split and metadata of a run.

    Raises:
        ConfigError: the folder cannot be written.
    """
    about = {
        "format": FORMAT,
        "data_sha256": data.store.manifest["sha256"],
        "molformer": __version__,
        "torch": str(torch.__version__),
        "command": _command_line(),
    }
    with writing(folder, ConfigError):
        folder.mkdir(parents=True, exist_ok=True)
        write_split(data.split, folder / "split.json")
        (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        settings = yaml.safe_dump(asdict(training) | encoder.to_dict(), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")


def started_by(folder: Path) -> str:
    """Command line of a run."""
    command: str = json.loads((folder / "run.json").read_text(encoding="utf-8"))["command"]
    return command


def _command_line() -> str:
    """Command line of this process, quoted for a shell."""
    program = Path(sys.argv[0])
    name = "molformer" if program.name in ("molformer", "__main__.py") else program.name
    return shlex.join([name, *sys.argv[1:]])


def check_folder(folder: Path, data: StoreDataModule) -> None:
    """Check that data and format of a resumed run are the same."""
    try:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        version, sha256 = about["format"], about["data_sha256"]
    except (OSError, ValueError, KeyError):
        raise ConfigError(f"'{folder}' is not a run folder: it has no readable run.json") from None
    if version > FORMAT:
        raise ConfigError(
            f"'{folder}' has run format {version}, this version reads up to {FORMAT}: install a newer molformer"
        )
    if sha256 != data.store.manifest["sha256"]:
        raise ConfigError(f"the data of '{folder}' have changed since the run began: start a new run")


@contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """Context that writes log messages, and a line per epoch, to `train.log`."""
    if not writes_files():
        yield
        return
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger("molformer"), EPOCHS_LOG]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
            log.removeHandler(handler)
        handler.close()
