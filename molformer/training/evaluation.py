"""Evaluation of a trained model on labelled data: `molformer evaluate MODEL DATA`.

Labels are converted to the units of the model. Structures with elements outside the training set are skipped, with a
warning.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from molformer import units
from molformer.data.batching import EpochBatches
from molformer.data.datamodule import StoreDataset
from molformer.data.descriptor_table import descriptor_table
from molformer.data.drafts import writing
from molformer.data.hydrogens import heavy_atom_store
from molformer.data.readers.entry import Censored, ReadOptions
from molformer.data.report import report_dropped
from molformer.data.several_conformers import conformer_labels
from molformer.data.splits import PARTS, SplitPolicy, make_split
from molformer.data.statistics import atom_rows
from molformer.data.store import StructureStore, store_path
from molformer.elements import SYMBOLS
from molformer.errors import ConfigError, InputError
from molformer.graph import GraphBatch
from molformer.inference.predictor import Predictor
from molformer.models.property import PropertyModel
from molformer.structure import Salts
from molformer.targets import Label, bounds_of
from molformer.training.artifacts import write_plots, write_predictions
from molformer.training.target_errors import Predicted, TargetErrors, covered, evaluate, predict_batches
from molformer.uncertainty.conformal import Coverage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TestResult:
    """Result of an evaluation."""

    __test__ = False  # not a test case

    errors: list[TargetErrors]  #: of each labelled target
    predicted: Predicted  #: predictions and labels, in the model's units
    indices: np.ndarray  #: evaluated rows of the store
    store: StructureStore  #: the data
    covered: Mapping[str, Coverage] = field(default_factory=dict)  #: empirical coverage of intervals, by target name

    def write(self, folder: Path) -> None:
        """Write predictions and parity plots.

        Raises:
            TrainingError: the folder cannot be written.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        targets = [row.target for row in self.errors]
        write_predictions(folder, self.predicted, targets, self.store, self.indices)
        write_plots(folder, self.predicted, self.errors)


def evaluate_model(
    model: str | os.PathLike[str],
    data: str | Sequence[str],
    targets: Sequence[str] = (),
    split_file: str = "",
    part: str = "test",
    batch_size: int = 64,
    device: str = "auto",
    smiles_column: str = "",
    progress: Callable[[int, int], None] | None = None,
    salts: Salts = "refuse",
    censored: Censored = "bounds",
) -> TestResult:
    """Errors of a model on a store or on files.

    Args:
        model: a model folder, a run folder, or an ensemble; see `find_models`.
        data: a store, or files as `train` takes them.
        targets: which of the model's targets, also NAME=KIND,UNIT; all labelled ones if empty.
        split_file: `split.json` of a run, to evaluate a single part.
        part: `train`, `val` or `test`.
        batch_size: structures per batch.
        device: `auto`, `cpu` or `cuda`.
        smiles_column: SMILES column of a table.
        progress: called with the number of finished structures and their total.
        salts: see `ConformerPolicy`.
        censored: see `ReadOptions`.

    Raises:
        ModelError: there is no model.
        ConfigError: model and data have no target in common, or its kinds differ.
        UnitError: a label has another dimension than the target.
    """
    predictor = Predictor.load(model, device)
    network = predictor.model
    known = {target.name: target for target in network.targets}
    conformers = network.domain.conformers
    # Classes are those of the model, of which the data may have some.
    wanted = [known[name] if name in known and known[name].classes else name for name in targets or known]
    if isinstance(data, str) and store_path(data).is_file():
        store = StructureStore(data)
    else:
        from molformer.data.conformers import ConformerPolicy
        from molformer.data.importing import open_data

        policy = ConformerPolicy(salts=salts)
        options = ReadOptions(smiles_column=smiles_column, censored=censored, allow_missing=not targets)
        store = open_data(data, wanted, options, policy, os.cpu_count() or 1, conformers=conformers)
        report_dropped(store)
    store = heavy_atom_store(store) if network.config.hydrogens == "implicit" else store
    pairs = [(known[name], store.label(name)) for name in known if name in store.labels]
    if not pairs:
        raise ConfigError(
            f"the model predicts {', '.join(known)} and '{store.path}' holds {', '.join(store.labels) or 'no labels'}"
        )
    factors = {name: _factor(*pair) for pair in pairs for name in (pair[0].name, *bounds_of(pair[0].name))}
    indices = _known_elements(network, store, _part(store, split_file, part))
    labels = [label for _, label in pairs]
    further = [label for label in conformer_labels(conformers) if label.name in store.labels]
    inputs = descriptor_table(store, network.descriptor_set)
    dataset = StoreDataset(store, indices, [*labels, *further], inputs=inputs)
    loader: DataLoader[GraphBatch] = DataLoader(
        dataset, None, sampler=EpochBatches(len(indices), batch_size), collate_fn=lambda batch: batch
    )

    def converted() -> Iterator[GraphBatch]:
        done = 0
        for graph in loader:
            yield replace(graph, labels={name: value * factors.get(name, 1) for name, value in graph.labels.items()})
            done += graph.num_graphs
            if progress is not None:
                progress(done, len(indices))

    calibrations = [each for each in predictor.calibrations if each is not None]
    calibrations = calibrations if len(calibrations) == len(predictor.models) else []
    predicted = predict_batches(predictor.models, converted(), calibrations)
    shares = covered(predicted, calibrations, store, indices)
    return TestResult(evaluate(predicted, [target for target, _ in pairs]), predicted, indices, store, shares)


def _factor(target: Label, label: Label) -> float:
    """Conversion factor from the unit of the data to that of the model; a missing unit is that of the model."""
    if not label.target_kind.same_values(target.target_kind):
        raise ConfigError(f"'{label.name}' is of kind '{label.kind}' in the data and '{target.kind}' in the model")
    if label.classes != target.classes:
        raise ConfigError(
            f"'{label.name}' has the classes {', '.join(label.classes)} in the data and {', '.join(target.classes)} in "
            "the model"
        )
    return units.factor(label.unit, target.unit) if label.unit else 1.0


def _part(store: StructureStore, split_file: str, part: str) -> np.ndarray:
    if not split_file:
        return np.arange(len(store))
    if part not in PARTS:
        raise ConfigError(f"part '{part}' is not one of {', '.join(PARTS)}")
    indices = getattr(make_split(store, SplitPolicy("file", file=split_file)), part)
    if len(indices) == 0:
        raise ConfigError(f"the {part} part of '{split_file}' is empty: choose another part")
    return indices


def _known_elements(model: PropertyModel, store: StructureStore, indices: np.ndarray) -> np.ndarray:
    """Structures of which all elements are in the training set of the model."""
    elements = np.array(model.domain.elements or range(len(SYMBOLS)))
    numbers = store.column("numbers")[atom_rows(store, indices)]
    owner = np.repeat(np.arange(len(indices)), store.sizes[indices])
    unseen = ~np.isin(numbers, elements)
    left_out = np.unique(owner[unseen])
    if len(left_out) == len(indices):
        raise InputError(f"every structure of '{store.path}' has an element that the model has not seen")
    if len(left_out):
        names = ", ".join(SYMBOLS[number] for number in np.unique(numbers[unseen]))
        logger.warning(
            "skipped %d of %d structures with elements outside the training set: %s", len(left_out), len(indices), names
        )
    return np.delete(indices, left_out)
