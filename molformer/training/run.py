"""A training run from its configs to a model folder.

The run folder holds `config.yaml` (every setting), `split.json`, `model/` (best weights), `last.ckpt`,
`metrics.csv`, `test_predictions.csv` and, with W&B, `wandb_run_id`.
"""

import csv
import importlib.util
import logging
import netrc
import os
import secrets
import shutil
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlparse

import lightning
import numpy as np
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.callbacks.weight_averaging import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.points import PointCloudDataModule
from molformer.data.splits import write_split
from molformer.data.statistics import atom_rows
from molformer.data.store import StructureStore, store_path
from molformer.errors import ConfigError, TrainingError
from molformer.models.config import SE3TransformerConfig
from molformer.models.property import Domain, PropertyModel, check_device
from molformer.training.callbacks import BestModel
from molformer.training.config import TrainingConfig, WandbMode
from molformer.training.evaluation import TargetErrors, evaluate, predict_batches
from molformer.training.model_card import write_model_card
from molformer.training.task import PropertyTask

logger = logging.getLogger(__name__)

_EXPECTED_WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",  # collating here is faster than a worker's queue
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # the run folder holds the run's config already
    ".*Experiment logs directory .* exists and is not empty.*",  # likewise
    ".*overridden `transfer_batch_to_device` in `LightningModule`.*",  # meant so
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning on a newer torch
)


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave.

    Args:
        folder: the run folder.
        model: the model folder inside it.
        errors: of each target on the test part.
        epochs: passes over the training part that were made.
        seconds: of training.
    """

    folder: Path
    model: Path
    errors: list[TargetErrors]
    epochs: int
    seconds: float


def train(encoder: SE3TransformerConfig, training: TrainingConfig, progress: Callback | None = None) -> TrainingResult:
    """Train a model and test it.

    Args:
        encoder: sizes of the network.
        training: data, targets and optimisation.
        progress: callback that shows how far the run is; none shows nothing.

    Raises:
        ConfigError: the settings do not fit the data, or the run folder holds a run already.
        StoreError: the store is missing or lacks a target.
        TrainingError: the loss is no longer finite.
    """
    folder = Path(training.run)
    check_device(training.device)
    if (folder / "config.yaml").exists():
        raise ConfigError(f"'{folder}' holds a run already: choose another folder with --run, or delete it")
    data = _data_module(training)
    lightning.seed_everything(training.seed, verbose=False)
    domain = Domain(
        elements=tuple(_elements(data)),
        max_atoms=int(data.store.sizes[data.split.train].max()),
        geometries=tuple(data.store.manifest["geometries"]),
    )
    task = PropertyTask(
        encoder.to_dict(), [target.to_dict() for target in data.targets], asdict(training), domain.to_dict()
    )
    task.set_statistics(data.statistics())
    _start_folder(folder, encoder, training, data)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    best = BestModel(folder / "model")
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message)
            trainer = _trainer(folder, training, best, progress)
            trainer.fit(task, data)
    except BaseException:
        if best.epoch < 0:  # nothing was learnt: the same run can be started again
            shutil.rmtree(folder, ignore_errors=True)
        raise
    seconds = time.perf_counter() - start
    if best.epoch < 0:
        raise TrainingError("no epoch ended with a finite validation loss: lower learning_rate")
    model = PropertyModel.load(best.folder).to(task.device)
    predicted = predict_batches(model, data.test_dataloader())
    errors = evaluate(predicted, data)
    _write_predictions(folder / "test_predictions.csv", predicted, data)
    result = TrainingResult(folder, best.folder, errors, trainer.current_epoch, seconds)
    write_model_card(model, data, training, errors, result.epochs, seconds, best.folder)
    return result


def _data_module(training: TrainingConfig) -> MoleculeDataModule | PointCloudDataModule:
    store = _open_store(training)
    if training.points:
        return PointCloudDataModule(
            store,
            training.target_names[0],
            training.cloud_options(),
            training.split,
            training.batch_size,
            training.seed,
            training.workers,
        )
    return MoleculeDataModule(
        store,
        training.target_names,
        training.split_policy(),
        training.batch_size,
        training.batch_atoms,
        training.batch_edges,
        training.seed,
        training.workers,
    )


def _open_store(training: TrainingConfig) -> StructureStore:
    if isinstance(training.data, str) and store_path(training.data).is_file():
        return StructureStore(training.data)
    from molformer.data.importing import open_data  # needs RDKit, which training from a store does not

    return open_data(training.data, training.targets, training.smiles_column, processes=os.cpu_count() or 1)


def _trainer(folder: Path, training: TrainingConfig, best: BestModel, progress: Callback | None) -> lightning.Trainer:
    callbacks: list[Callback] = [
        best,  # before the averaging, see its docstring
        ModelCheckpoint(dirpath=folder, filename="last", monitor=None, save_top_k=1, enable_version_counter=False),
        EarlyStopping("val/loss", patience=training.patience, check_finite=False),
        LearningRateMonitor("epoch"),
    ]
    if training.ema_decay > 0:
        callbacks.append(EMAWeightAveraging(use_buffers=False, decay=training.ema_decay))
    if progress is not None:
        callbacks.append(progress)
    loggers: list[Logger] = [CSVLogger(folder, name="", version="")]
    if (wandb := _wandb_logger(folder, training)) is not None:
        loggers.append(wandb)
    return lightning.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[training.device],
        devices=1,
        precision={"32": "32-true", "64": "64-true", "bf16-mixed": "bf16-mixed"}[training.precision],  # type: ignore[arg-type]
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip,
        callbacks=callbacks,
        logger=loggers,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        inference_mode=False,  # forces need gradients in validation
    )


def _wandb_logger(folder: Path, training: TrainingConfig) -> WandbLogger | None:
    mode: WandbMode = training.wandb
    if mode == "off":
        return None
    if importlib.util.find_spec("wandb") is None:
        if mode != "auto":
            raise ConfigError(f"wandb is '{mode}' but the package is not installed: pip install wandb, or --wandb off")
        return None
    if mode == "auto":
        mode = "online" if _has_wandb_key() else "offline"
        if mode == "offline":
            logger.info("W&B has no key and logs offline to '%s/wandb'; `wandb login` changes that", folder)
    run_id = secrets.token_hex(4)
    (folder / "wandb_run_id").write_text(run_id + "\n")
    import wandb

    settings = wandb.Settings(silent=True)
    experiment = wandb.init(
        project="molformer", name=folder.name, id=run_id, dir=folder, mode=mode, resume="allow", settings=settings
    )
    return WandbLogger(experiment=experiment)


def _has_wandb_key() -> bool:
    """Whether `wandb login` or the environment has left a key; asking W&B itself would go to the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_folder(
    folder: Path,
    encoder: SE3TransformerConfig,
    training: TrainingConfig,
    data: MoleculeDataModule | PointCloudDataModule,
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_split(data.split, folder / "split.json")
        settings = yaml.safe_dump(asdict(training) | encoder.to_dict(), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the run folder '{folder}': {error.strerror}") from None


def _elements(data: MoleculeDataModule | PointCloudDataModule) -> list[int]:
    numbers = data.store.column("numbers")[atom_rows(data.store, data.split.train)]
    return [int(number) for number in np.unique(numbers)]


def _write_predictions(
    path: Path, predicted: dict[str, tuple[np.ndarray, np.ndarray]], data: MoleculeDataModule | PointCloudDataModule
) -> None:
    """Test part: one row a structure, label and prediction of each target that has one number a structure."""
    scalars = [t for t in data.targets if not (t.per_node or t.shape or t.kind == "category")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        units = [f" [{target.unit}]" if target.unit else "" for target in scalars]
        columns = [
            f"{target.name}{kind}{unit}"
            for target, unit in zip(scalars, units, strict=True)
            for kind in ("", " predicted")
        ]
        writer.writerow(["index", "name", "smiles", *columns])
        for row, index in enumerate(data.split.test):
            structure = data.store[int(index)]
            values = [predicted[target.name][kind][row] for target in scalars for kind in (1, 0)]
            writer.writerow([index, structure.name, structure.smiles, *(f"{value:.10g}" for value in values)])
