"""A training run, from its configs to a model folder; see `run_folder` for the files."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from molformer.data.cloud_datamodule import PointCloudDataModule
from molformer.data.datamodule import MoleculeDataModule, StoreDataModule
from molformer.data.descriptor_table import chosen, descriptor_table
from molformer.data.drafts import draft_folder, writing
from molformer.data.hydrogens import heavy_atom_store
from molformer.data.labels import with_kinds
from molformer.data.readers import ReadOptions
from molformer.data.report import report_dropped, report_duplicates
from molformer.data.splits import SplitPolicy
from molformer.data.statistics import atom_rows
from molformer.data.store import StructureStore, store_path
from molformer.errors import ConfigError, ModelError, TrainingError
from molformer.inference.models import MEMBER, find_models
from molformer.kernels import use_kernels
from molformer.models.config import SE3TransformerConfig
from molformer.models.equivariance import equivariance_error
from molformer.models.property import Domain, PropertyModel, check_device, load_model
from molformer.training.artifacts import write_plots, write_predictions
from molformer.training.callbacks import LAST, BestModel
from molformer.training.classical import Classical, compare
from molformer.training.config import TrainingConfig
from molformer.training.distributed import writes_files
from molformer.training.gaussian_process import fit_gaussian_process
from molformer.training.model_card import TrainingResult, write_model_card
from molformer.training.monitor import Monitor
from molformer.training.objectives import Descriptors
from molformer.training.preflight import out_of_memory_advice, preflight
from molformer.training.run_folder import check_folder, choose_folder, log_file, start_folder
from molformer.training.target_errors import Predicted, TargetErrors, covered, evaluate, predict_batches
from molformer.training.task import PropertyTask
from molformer.training.tracking import log_report
from molformer.training.trainer import make_trainer, quiet_lightning
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.fit import calibrate_run

__all__ = ["TrainingResult", "data_module", "new_task", "train"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN = 60  # messages about the data that are made
_SEEDS = 1000  # between the seeds of the members of an ensemble
_SAMPLE = 50_000  # molecules from which the spread of the descriptors is taken


def train(
    encoder: SE3TransformerConfig, training: TrainingConfig, progress: Callback | None = None, resume: bool = False
) -> TrainingResult:
    """Train a model and evaluate it on the test part.

    Args:
        encoder: config of the encoder; with `initial`, that of the initial model is used.
        training: data, targets and optimisation.
        progress: callback that shows the progress.
        resume: continue the run in its folder from the last checkpoint.

    Returns:
        The same in every process of a distributed run.

    Raises:
        ConfigError: the settings are inconsistent with the data, or the run folder contains a run.
        ModelError: there is no model to start from.
        StoreError: the store is missing or lacks a target.
        TrainingError: the loss is not finite, or memory or disk space is insufficient.
    """
    check_device(training.device)
    folder = choose_folder(training)
    training = replace(training, run=str(folder))
    if not resume and writes_files() and (folder / "config.yaml").exists():
        raise ConfigError(
            f"'{folder}' holds a run already: choose another folder with --run, delete it, or resume with "
            f"--resume {folder}"
        )
    initial = _initial_model(training.initial) if training.initial else None
    if initial is not None:
        drop = encoder.drop_graph * initial.config.molecular_graph
        encoder = replace(initial.config, stochastic_depth=encoder.stochastic_depth, drop_graph=drop)
    store = _open_store(training)
    data = data_module(training, folder / "split.json" if resume else None, encoder.hydrogens == "implicit", store)
    if not len(data.split.val) and writes_files():
        logger.warning(
            "no validation part: the losses called val are those of the training part, and predictions of "
            "the model will have no intervals"
        )
    if training.ensemble > 1:
        return _train_ensemble(encoder, training, data, progress, resume)
    lightning.seed_everything(training.seed, verbose=False)
    task = new_task(encoder, training, data, initial)
    if writes_files():
        _open_folder(encoder, training, data, resume)
    with log_file(folder):
        if writes_files() and not resume:
            if initial is not None:
                ours = task.model.matching_heads(initial)
                new = ", ".join(name for name in task.model.predicted if name not in ours) or "none"
                taken = ", ".join(ours) or "none"
                logger.info("from %s: the encoder and heads of: %s; new heads: %s", training.initial, taken, new)
            report_dropped(store, data.targets, folder)
            report_duplicates(store, data.targets, folder)
            parts = [len(part) for part in (data.split.train, data.split.val, data.split.test)]
            logger.info("split: %s, %d rows for training, %d for validation, %d for test", data.split.method, *parts)
        return _run(task, training, data, progress, resume)


def _open_folder(encoder: SE3TransformerConfig, training: TrainingConfig, data: StoreDataModule, resume: bool) -> None:
    folder = Path(training.run)
    if resume:
        check_folder(folder, data)
    else:
        if training.split_by == "auto" and not training.points:
            training = replace(training, split_by=data.split.method)
        start_folder(folder, encoder, training, data)


def _train_ensemble(
    encoder: SE3TransformerConfig,
    training: TrainingConfig,
    data: StoreDataModule,
    progress: Callback | None,
    resume: bool,
) -> TrainingResult:
    """Train the members in run folders of their own, write them into one model folder, and evaluate their mean."""
    from molformer.inference.predictor import Predictor  # needs RDKit, which training from a store does not

    folder = Path(training.run)
    _open_folder(encoder, training, data, resume)
    split = str(folder / "split.json")
    alone = replace(training, ensemble=1, baselines=False, folds=0, split_by="file", split_file=split)
    results = []
    try:
        for number in range(training.ensemble):
            inside = folder / f"member-{number + 1}"
            member = replace(alone, run=str(inside), seed=training.seed + number * _SEEDS)
            logger.info("model %d of %d", number + 1, training.ensemble)
            results.append(train(encoder, member, progress, resume and (inside / "config.yaml").is_file()))
    finally:
        if not resume and not [*folder.glob(MEMBER)]:  # the same run can be started again
            shutil.rmtree(folder, ignore_errors=True)
    members = Predictor.load([result.model for result in results], training.device)
    model = folder / "model"
    with writing(model, TrainingError), draft_folder(model) as draft:
        members.save_pretrained(draft / "model")
        shutil.rmtree(model, ignore_errors=True)
        os.replace(draft / "model", model)
    calibrations = [each for each in members.calibrations if each is not None]
    predicted, errors, classical = _evaluated(folder, members.models, data, training, calibrations)
    write_plots(folder, predicted, errors)
    spent = sum(each.epochs for each in results), sum(each.seconds for each in results), results[-1].machine
    result = TrainingResult(folder, model, errors, *spent, classical)
    shares = covered(predicted, calibrations, data.store, data.split.test)
    write_model_card(members.model, data, training, result, shares, {})
    return result


def _run(
    task: PropertyTask, training: TrainingConfig, data: StoreDataModule, progress: Callback | None, resume: bool
) -> TrainingResult:
    folder = Path(training.run)
    best, monitor = BestModel(folder / "model"), Monitor(folder / "metrics.csv")
    is_member = folder.match(MEMBER) and (folder.parent / "run.json").is_file()
    whole = folder.parent if is_member else folder
    checkpoint = folder / LAST if resume and (folder / LAST).is_file() else None
    try:
        with quiet_lightning(), out_of_memory_advice(training):
            settings = asdict(training) | task.model.config.to_dict()
            trainer = make_trainer(folder, training, [best, monitor], progress, settings)
            if trainer.world_size == 1:
                context = trainer.precision_plugin.forward_context()
                logger.info("%s", preflight(task, data, context, trainer.strategy.root_device))
            trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
            trainer.strategy.barrier()
    except SystemExit:  # Lightning's answer to an interrupt
        if best.epoch >= 0:
            logger.info("the state after the last epoch is saved; resume with: molformer train --resume %s", whole)
        raise KeyboardInterrupt from None
    except (OSError, ModelError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(
            f"cannot write to '{folder}': {reason}; the last checkpoint is complete: free disk space and resume with "
            f"--resume {whole}"
        ) from None
    finally:
        if best.epoch < 0 and not resume and writes_files():  # no epoch was finished: the same run can be started again
            shutil.rmtree(folder, ignore_errors=True)
    if best.epoch < 0:
        raise TrainingError("no epoch ended with a finite validation loss: lower learning_rate")
    return _finish(task, training, data, trainer, monitor)


def _finish(
    task: PropertyTask, training: TrainingConfig, data: StoreDataModule, trainer: lightning.Trainer, monitor: Monitor
) -> TrainingResult:
    """Evaluate the best model and write the results of the run."""
    folder = Path(training.run)
    model = PropertyModel.load(folder / "model").to(task.device)
    calibration = calibrate_run(model, data)
    predicted, errors, classical = _evaluated(folder, model, data, training, [calibration])
    spent = (trainer.current_epoch, monitor.seconds, monitor.machine)
    result = TrainingResult(folder, folder / "model", errors, *spent, classical)
    if writes_files():
        plots = write_plots(folder, predicted, errors, folder / "metrics.csv")
        known = data.split.test if len(data.split.test) else data.split.train
        few = data.dataset(known, training=False)[next(iter(data.batches(known, False)))[:8]]
        symmetry = {name: equivariance_error(model, few, getattr(torch, name)) for name in ("float32", "float64")}
        calibration.save(folder / "model")
        shares = covered(predicted, [calibration], data.store, data.split.test)
        write_model_card(model, data, training, result, shares, symmetry)
        for log in trainer.loggers:
            if isinstance(log, WandbLogger):
                log_report(log, folder / "model", plots, errors, predicted, data.store, data.split.test)
    return result


def _evaluated(
    folder: Path,
    models: PropertyModel | Sequence[PropertyModel],
    data: StoreDataModule,
    training: TrainingConfig,
    calibrations: Sequence[Calibration],
) -> tuple[Predicted, list[TargetErrors], list[Classical]]:
    """Predictions of the test part, also written to a file; their errors, and those of classical methods."""
    tested = data.targets if len(data.split.test) else []
    predicted = predict_batches(models, data.test_dataloader() if tested else [], calibrations)
    errors, classical = evaluate(predicted, tested, data), []
    if writes_files():
        if training.baselines and "descriptors" not in training.objective_weights:
            classical = compare(data, tested)
        write_predictions(folder, predicted, tested, data.store, data.split.test)
    return predicted, errors, classical


def data_module(
    training: TrainingConfig,
    split_file: Path | None = None,
    implicit: bool = False,
    store: StructureStore | None = None,
) -> StoreDataModule:
    """Data module of a run, with hydrogens as atoms or implicit ones; a resumed run reads its split."""
    store = store or _open_store(training)
    store = heavy_atom_store(store) if implicit else store
    store.labels = with_kinds(store.labels, training.targets)
    policy = training.split_policy()
    if split_file is not None and split_file.is_file():
        policy = SplitPolicy("file", file=str(split_file))
    common: dict[str, Any] = {name: getattr(training, name) for name in ("batch_size", "epoch_size", "seed", "workers")}
    if training.points:
        split = policy if policy.method == "file" else training.split
        return PointCloudDataModule(store, training.target_names[0], training.cloud_options(), split, **common)
    common |= {name: getattr(training, name) for name in ("batch_atoms", "batch_edges", "conformers")}
    common |= {"repeats": training.geometry_repeats, "descriptors": "descriptors" in training.objective_weights}
    data = MoleculeDataModule(store, training.target_names, policy, **common)
    data.inputs = descriptor_table(store, chosen(training.descriptors, training.descriptor_readout))
    return data


def _initial_model(source: str) -> PropertyModel:
    folders = find_models(source)
    if len(folders) > 1:
        raise ModelError(f"'{source}' is an ensemble: choose one of its folders as the initial model")
    return load_model(folders[0], "cpu")


def _open_store(training: TrainingConfig) -> StructureStore:
    wanted = "descriptors" in training.objective_weights
    if not wanted and isinstance(training.data, str) and store_path(training.data).is_file():
        return StructureStore(training.data)
    from molformer.data.conformers import ConformerPolicy  # needs RDKit, which training from a store does not
    from molformer.data.importing import open_data

    return open_data(
        training.data,
        training.targets,
        ReadOptions(smiles_column=training.smiles_column, censored=training.censored),
        ConformerPolicy(salts=training.salts),
        processes=os.cpu_count() or 1,
        progress=_Counter() if wanted else None,
        sample=training.sample,
        seed=training.seed,
        descriptors=wanted,
        conformers=training.conformers,
    )


class _Counter:
    """Logs now and then how many molecules have a geometry."""

    def __init__(self) -> None:
        self._count, self._start, self._said = 0, time.monotonic(), time.monotonic()

    def __call__(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._said > _SECONDS_BETWEEN:
            self._said = now
            rate = self._count / (now - self._start)
            logger.info("%d molecules have geometry and descriptors, %.1f a second", self._count, rate)


def new_task(
    encoder: SE3TransformerConfig, training: TrainingConfig, data: StoreDataModule, initial: PropertyModel | None = None
) -> PropertyTask:
    """The task of a run, with the weights of `initial` if given."""
    domain = Domain(
        elements=tuple(_elements(data)),
        max_atoms=int(data.store.sizes[data.split.train].max()),
        geometries=tuple(data.store.manifest["geometries"]),
        conformers=training.conformers,
    )
    targets = [target.to_dict() for target in data.targets]
    names = [label.name for label in data.also]
    statistics, inputs = data.statistics(), chosen(training.descriptors, training.descriptor_readout)
    process = None
    if data.inputs is not None and training.descriptor_readout == "gaussian_process":
        process, values = fit_gaussian_process(inputs, data, statistics, training.seed)
        data.inputs, inputs = np.hstack([data.inputs[:, : len(inputs)], values]), process.descriptors
    task = PropertyTask(encoder.to_dict(), targets, asdict(training), domain.to_dict(), names, asdict(inputs))
    task.model.set_statistics(statistics)
    if process is not None and task.model.descriptors is not None:
        task.model.descriptors.load_state_dict(process.state_dict())
        for name in task.model.descriptors.sizes:  # the network begins with nothing to add
            nn.init.zeros_(task.model.head(name).net[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(task.model.head(name).net[-1].bias)  # type: ignore[arg-type]
    elif data.inputs is not None and task.model.descriptors is not None:
        task.model.descriptors.set_statistics(data.inputs[_sample(training, data)])
    for objective in task.objectives.values():
        if isinstance(objective, Descriptors):
            columns = [data.store.column(name)[_sample(training, data)] for name in names]
            objective.set_statistics(np.stack(columns, axis=1))
    if initial is not None:
        task.model.start_from(initial)
    if training.precision == "64":
        task.double()  # before the average of the weights is made from it
    use_kernels(task.model.encoder, training.kernels)
    if training.cuda_graphs and (task.model.derived or encoder.stochastic_depth):
        raise ConfigError("cuda_graphs is not for conservative forces, stress or stochastic_depth: turn it off")
    if training.cuda_graphs and (encoder.molecular_graph or encoder.charge_and_spin):
        raise ConfigError("cuda_graphs is not for molecular_graph or charge_and_spin: turn it off")
    if training.compile:
        if task.model.derived:
            raise ConfigError(
                "compile is not for conservative forces or stress: torch.compile has no second derivative"
            )
        for block in task.model.encoder.blocks:
            block.compile(dynamic=True)
    return task


def _sample(training: TrainingConfig, data: StoreDataModule) -> np.ndarray:
    """Molecules of the training part from which statistics are taken."""
    return np.sort(np.random.default_rng(training.seed).permutation(data.split.train)[:_SAMPLE])


def _elements(data: StoreDataModule) -> list[int]:
    numbers = data.store.column("numbers")[atom_rows(data.store, data.split.train)]
    return [int(number) for number in np.unique(numbers)]
