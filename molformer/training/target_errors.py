"""Errors of a model on a data set, in physical units, compared with two baselines.

Baselines, both fitted to the training part: `mean` predicts a constant; `composition` is a least-squares fit to the
number of atoms of each element. Errors of vectors, tensors and per-atom values are component-wise, as is usual for
forces.
Letters: B structures, n values of a target.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import binary_auroc

from molformer.data.datamodule import StoreDataModule
from molformer.data.several_conformers import averaged
from molformer.data.statistics import baseline_values, labelled_values, present, target_statistics
from molformer.data.store import StructureStore
from molformer.graph import GraphBatch
from molformer.models.features import invariant_features
from molformer.models.property import PropertyModel
from molformer.targets import Label, bounds_of
from molformer.training.bootstrap import NO_INTERVAL, Interval, ratio_interval, sample_interval
from molformer.training.distributed import gathered, world
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.conformal import Coverage, coverage

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions (of classes, probabilities) and labels of a data set, in the units of the targets."""

    values: dict[str, tuple[np.ndarray, np.ndarray]]  # by target name: (B, …) or, per atom, (n, …)
    sizes: np.ndarray  # number of atoms of each structure (B,)
    bounds: dict[str, np.ndarray] = field(default_factory=dict)  # of censored labels (B,), see `bounds_of`
    inputs: tuple[np.ndarray, ...] = ()  # of the calibrations of the models (B, D), see `Calibration.inputs`

    def owners(self, target: Label) -> np.ndarray:
        """Index of the structure of each value of a target (n,)."""
        structures = np.arange(len(self.sizes))
        return np.repeat(structures, self.sizes) if target.per_node else structures


@dataclass(frozen=True)
class TargetErrors:
    """Errors of one target, in its unit, with 95 % bootstrap intervals; NaN where they are not defined."""

    target: Label  # name, unit and kind
    count: int  # number of labelled molecules or atoms
    error: float  # mean absolute error over components; of a class, the fraction of wrong predictions
    interval: Interval = NO_INTERVAL  # of `error`
    rmse: float = NAN  # root mean square error, not of a class
    rmse_interval: Interval = NO_INTERVAL  # of `rmse`
    r2: float = NAN  # coefficient of determination, not of a class
    per_atom: float = NAN  # mean absolute error of an extensive energy divided by the number of atoms
    error_mean: float = NAN  # `error` of the mean baseline, for classes of the most frequent class
    error_composition: float = NAN  # `error` of the composition baseline
    roc_auc: float = NAN  # area under the ROC curve of a binary target, or of the second of two classes, if both occur
    roc_auc_interval: Interval = NO_INTERVAL  # of `roc_auc`
    iou: float = NAN  # mean over the classes of intersection over union, of classes of atoms or points
    censored: int = 0  # number of values that are bounds, which no figure above includes


def predict_batches(
    models: PropertyModel | Sequence[PropertyModel],
    batches: Iterable[GraphBatch],
    calibrations: Sequence[Calibration] = (),
) -> Predicted:
    """Predictions and labels of a data set, in every process; the batches, identical in each, are distributed over
    them.

    Those of several models, the members of an ensemble, are averaged; all are set to evaluation mode. Inputs are those
    of the calibrations of the models.
    """
    models = [models] if isinstance(models, PropertyModel) else models
    device = next(models[0].parameters()).device
    rank, size = world()
    for model in models:
        model.eval()
    done = []
    with torch.no_grad():
        for number, graph in enumerate(batches):
            if number % size == rank:
                done.append((number, _predict_batch(models, graph.to(device), calibrations)))
    parts = [part for _, part in sorted(gathered(done), key=lambda pair: pair[0])]
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in parts[0].values if parts else ():
        prediction, label = (np.concatenate(each) for each in zip(*(part.values[name] for part in parts), strict=True))
        values[name] = prediction, label
    names = parts[0].bounds if parts else ()
    bounds = {name: np.concatenate([part.bounds[name] for part in parts]) for name in names}
    inputs = tuple(np.concatenate(each) for each in zip(*(part.inputs for part in parts), strict=True))
    sizes = np.concatenate([np.zeros(0, dtype=np.int64), *(part.sizes for part in parts)])
    return Predicted(values, sizes, bounds, inputs)


def _predict_batch(
    models: Sequence[PropertyModel], graph: GraphBatch, calibrations: Sequence[Calibration]
) -> Predicted:
    targets = [target for target in models[0].targets if target.name in graph.labels]
    graphs = [model.differentiable(graph) for model in models]
    features = [model.features(each) for model, each in zip(models, graphs, strict=True)]
    outputs = [
        averaged(model.readout(x, each), graph, model, targets)
        for model, x, each in zip(models, features, graphs, strict=True)
    ]
    atoms = [_array(invariant_features(x)) for x in features[: len(calibrations)]]
    numbers, sizes = graph.numbers.cpu().numpy(), graph.sizes.cpu().numpy()
    inputs = [each.inputs(own, numbers, sizes) for each, own in zip(calibrations, atoms, strict=True)]
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    bounds: dict[str, np.ndarray] = {}
    for target in targets:
        each = [
            _array(model.probabilities(target, out[target.name]) if target.is_class else out[target.name])
            for model, out in zip(models, outputs, strict=True)
        ]
        values[target.name] = (np.mean(each, axis=0), _array(graph.labels[target.name]))
        bounds |= {name: _array(graph.labels[name]) for name in bounds_of(target.name) if name in graph.labels}
    return Predicted(values, sizes, bounds, tuple(inputs))


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


def covered(
    predicted: Predicted, calibrations: Sequence[Calibration], store: StructureStore, indices: np.ndarray
) -> dict[str, Coverage]:
    """Empirical coverage of the intervals of the models by target name; empty without structures or calibrations.

    Args:
        predicted: of these models, with inputs of the calibrations.
        calibrations: of all models, or none.
        store: the data.
        indices: of the structures that were predicted (B,).
    """
    if not len(indices) or not calibrations:
        return {}
    origins = np.array(store.manifest["geometries"])[store.column("geometry")[indices]]
    assessed = [each.assess(own, origins) for each, own in zip(calibrations, predicted.inputs, strict=True)]
    return coverage(assessed, calibrations[0].level, predicted.values, predicted.sizes, origins)


def evaluate(predicted: Predicted, targets: Sequence[Label], data: StoreDataModule | None = None) -> list[TargetErrors]:
    """Errors of targets; baselines are known if `predicted` is the test part of `data`."""
    rows = []
    for target in targets:
        prediction, label = predicted.values[target.name]
        labelled = present(label)
        owner = np.unique(predicted.owners(target)[labelled], return_inverse=True)[1]
        errors = _class_errors if target.is_class else _number_errors
        size = predicted.sizes[predicted.owners(target)[labelled]]
        row = errors(_Labelled(target, prediction[labelled], label[labelled], owner, size), data)
        bounds = [predicted.bounds[name] for name in bounds_of(target.name) if name in predicted.bounds]
        rows.append(replace(row, censored=sum(int(np.isfinite(bound).sum()) for bound in bounds)))
    return rows


class _Labelled(NamedTuple):
    """Labelled values of a target."""

    target: Label
    prediction: np.ndarray
    label: np.ndarray
    owner: np.ndarray  # structure of each, from 0 without gaps
    size: np.ndarray  # atoms of that structure


def _number_errors(values: _Labelled, data: StoreDataModule | None) -> TargetErrors:
    target, prediction, label, owner, size = values
    if len(label) == 0:
        return TargetErrors(target, 0, NAN)
    flat = (len(label), -1)
    difference = np.abs(prediction - label).reshape(flat)
    sums, width = np.zeros((owner.max() + 1, 3)), np.full(len(label), difference.shape[1])
    np.add.at(sums, owner, np.stack([difference.sum(1), (difference**2).sum(1), width], 1))
    guess, truth = torch.from_numpy(prediction.reshape(-1)), torch.from_numpy(label.reshape(-1))
    by_mean, by_composition = _baselines(data, target) if data is not None else (NAN, NAN)
    return TargetErrors(
        target=target,
        count=len(label),
        error=float(mean_absolute_error(guess, truth)),
        interval=ratio_interval(sums, lambda drawn: drawn[:, 0] / drawn[:, 2]),
        rmse=float(mean_squared_error(guess, truth, squared=False)),
        rmse_interval=ratio_interval(sums, lambda drawn: np.sqrt(drawn[:, 1] / drawn[:, 2])),
        r2=float(r2_score(guess, truth)) if len(truth) > 1 else NAN,
        per_atom=float((difference[:, 0] / size).mean()) if target.is_energy else NAN,
        error_mean=by_mean,
        error_composition=by_composition,
    )


def _class_errors(values: _Labelled, data: StoreDataModule | None) -> TargetErrors:
    """Fraction of wrong predictions, and the area under the ROC curve of a binary target."""
    target, probability, label, owner, _ = values
    if len(label) == 0:
        return TargetErrors(target, 0, NAN)
    truth = label.astype(int)
    answer = (probability > 0.5).astype(int) if not target.classes else probability.argmax(-1)
    wrong = np.zeros((owner.max() + 1, 2))  # of each structure: wrong predictions, and all
    np.add.at(wrong, owner, np.stack([answer != truth, np.ones(len(truth))], 1))
    frequent = NAN
    if data is not None:
        train, _ = labelled_values(data.store, data.split.train, target)
        frequent = float((truth != np.bincount(train.astype(int)).argmax()).mean())
    binary = not target.classes or (len(target.classes) == 2 and not target.per_node)
    probability = probability[:, 1] if binary and target.classes else probability
    return TargetErrors(
        target=target,
        count=len(truth),
        error=float((answer != truth).mean()),
        interval=ratio_interval(wrong, lambda drawn: drawn[:, 0] / drawn[:, 1]),
        error_mean=frequent,
        roc_auc=_roc_auc(probability, truth) if binary else NAN,
        roc_auc_interval=(
            sample_interval(lambda drawn: _roc_auc(probability[drawn], truth[drawn]), len(truth), resamples=300)
            if binary
            else NO_INTERVAL
        ),
        iou=_iou(answer, truth, len(target.classes)) if target.classes and target.per_node else NAN,
    )


def _iou(answer: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Mean intersection over union of the classes that occur."""
    counts = np.bincount(classes * truth + answer, minlength=classes**2).reshape(classes, classes)
    both, either = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float((both[either > 0] / either[either > 0]).mean())


def _roc_auc(probability: np.ndarray, truth: np.ndarray) -> float:
    if not 0 < truth.sum() < len(truth):
        return NAN
    return float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(truth)))


def _baselines(data: StoreDataModule, target: Label) -> tuple[float, float]:
    """Mean absolute errors of the mean and the composition baseline on the test part."""
    train, _ = labelled_values(data.store, data.split.train, target)
    test, _ = labelled_values(data.store, data.split.test, target)
    by_mean = float(np.abs(test - train.mean(axis=0)).mean())
    if target.target_kind.baseline is None:
        return by_mean, NAN  # the composition does not determine a direction
    references = target_statistics(data.store, data.split.train, target).references
    guess = baseline_values(data.store, data.split.test, target, references)
    return by_mean, float(np.abs(test - guess).mean())
