"""Errors of a model on a data set, in physical units, beside the two simplest predictors.

Baselines, both fitted on the training part: `mean` predicts one value for everything (one a molecule, or one an
atom); `composition` predicts from the number of atoms of each element by least squares.
Errors of vectors, tensors and values per atom are taken component by component, as the field does for forces.
Letters: B structures, n values of a target.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import binary_auroc

from molformer.data.datamodule import StoreDataModule
from molformer.data.statistics import baseline_values, labelled_values, present, target_statistics
from molformer.graph import GraphBatch
from molformer.models.property import PropertyModel
from molformer.targets import Label
from molformer.training.bootstrap import NO_INTERVAL, Interval, ratio_interval, sample_interval
from molformer.training.distributed import gathered, world

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions and labels of a data set, in its order and in the units of the targets.

    Args:
        values: by target name: predictions and labels, (B, …) or, per atom, (n, …); probabilities for classes.
        sizes: atoms of each structure (B,).
    """

    values: dict[str, tuple[np.ndarray, np.ndarray]]
    sizes: np.ndarray

    def owners(self, target: Label) -> np.ndarray:
        """Structure of each value of a target (n,)."""
        structures = np.arange(len(self.sizes))
        return np.repeat(structures, self.sizes) if target.per_node else structures


@dataclass(frozen=True)
class TargetErrors:
    """Errors of one target on a data set, in the target's unit, with 95 % bootstrap intervals.

    Args:
        target: name, unit and kind.
        count: labelled molecules or atoms.
        error: mean absolute error of the model, of a component where there are several; of a class, the share of wrong
            answers.
        interval: of `error`.
        rmse: root mean square error; NaN for a class.
        rmse_interval: of `rmse`.
        r2: coefficient of determination; NaN for a class.
        per_atom: mean absolute error of an extensive energy divided by the number of atoms; NaN for others.
        error_mean: the same as `error` of the mean predictor, for a class of the most frequent one; NaN if unknown.
        error_composition: the same of the composition predictor; NaN where the composition says nothing.
        roc_auc: area under the ROC curve of a binary target; NaN for others, or if one of the answers is absent.
        roc_auc_interval: of `roc_auc`.
        iou: mean over the classes of intersection over union, of classes of atoms or points; NaN for others.
    """

    target: Label
    count: int
    error: float
    interval: Interval = NO_INTERVAL
    rmse: float = NAN
    rmse_interval: Interval = NO_INTERVAL
    r2: float = NAN
    per_atom: float = NAN
    error_mean: float = NAN
    error_composition: float = NAN
    roc_auc: float = NAN
    roc_auc_interval: Interval = NO_INTERVAL
    iou: float = NAN


def predict_batches(model: PropertyModel, batches: Iterable[GraphBatch]) -> Predicted:
    """Predictions and labels of a whole data set; the processes of a distributed run share the batches.

    Args:
        model: is put into evaluation mode.
        batches: with labels of some of its targets, the same in every process.

    Returns:
        All of it that has labels, in the order of the batches, in every process.
    """
    device = next(model.parameters()).device
    rank, size = world()
    model.eval()
    done = []
    with torch.no_grad():
        for number, graph in enumerate(batches):
            if number % size == rank:
                done.append((number, _predict_batch(model, graph.to(device))))
    parts = [part for _, part in sorted(gathered(done), key=lambda pair: pair[0])]
    values = {
        target.name: (
            np.concatenate([part.values[target.name][0] for part in parts]),
            np.concatenate([part.values[target.name][1] for part in parts]),
        )
        for target in model.targets
        if parts and target.name in parts[0].values
    }
    return Predicted(values, np.concatenate([np.zeros(0, dtype=np.int64), *(part.sizes for part in parts)]))


def _predict_batch(model: PropertyModel, graph: GraphBatch) -> Predicted:
    outputs = model(graph)
    values = {}
    for target in model.targets:
        if target.name not in graph.labels:
            continue
        value = outputs[target.name]
        value = model.probabilities(target, value) if target.is_class else value
        values[target.name] = (_array(value), _array(graph.labels[target.name]))
    return Predicted(values, graph.sizes.cpu().numpy())


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


def evaluate(predicted: Predicted, targets: Sequence[Label], data: StoreDataModule | None = None) -> list[TargetErrors]:
    """Errors of every target.

    Args:
        predicted: what `predict_batches` gives.
        targets: which of its targets.
        data: where the baselines are fitted (training part) and tested, if `predicted` is its test part.
    """
    rows = []
    for target in targets:
        prediction, label = predicted.values[target.name]
        kept = present(label)
        owner = np.unique(predicted.owners(target)[kept], return_inverse=True)[1]
        errors = _class_errors if target.is_class else _number_errors
        size = predicted.sizes[predicted.owners(target)[kept]]
        rows.append(errors(_Labelled(target, prediction[kept], label[kept], owner, size), data))
    return rows


class _Labelled(NamedTuple):
    """The values of a target that have labels."""

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
    sums = np.zeros((owner.max() + 1, 3))
    np.add.at(
        sums, owner, np.stack([difference.sum(1), (difference**2).sum(1), np.full(len(label), difference.shape[1])], 1)
    )
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
    """Share of wrong answers, and the area under the ROC curve of a binary target."""
    target, probability, label, owner, _ = values
    if len(label) == 0:
        return TargetErrors(target, 0, NAN)
    truth = label.astype(int)
    answer = (probability > 0.5).astype(int) if not target.classes else probability.argmax(-1)
    wrong = np.zeros((owner.max() + 1, 2))  # of each structure: wrong answers, and all
    np.add.at(wrong, owner, np.stack([answer != truth, np.ones(len(truth))], 1))
    frequent = NAN
    if data is not None:
        train, _ = labelled_values(data.store, data.split.train, target)
        frequent = float((truth != np.bincount(train.astype(int)).argmax()).mean())
    binary = not target.classes
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
    """Mean of intersection over union, over the classes that occur."""
    counts = np.bincount(classes * truth + answer, minlength=classes**2).reshape(classes, classes)
    both, either = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float((both[either > 0] / either[either > 0]).mean())


def _roc_auc(probability: np.ndarray, truth: np.ndarray) -> float:
    if not 0 < truth.sum() < len(truth):
        return NAN
    return float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(truth)))


def _baselines(data: StoreDataModule, target: Label) -> tuple[float, float]:
    """Mean absolute errors of the mean and of the composition predictor on the test part."""
    train, _ = labelled_values(data.store, data.split.train, target)
    test, _ = labelled_values(data.store, data.split.test, target)
    by_mean = float(np.abs(test - train.mean(axis=0)).mean())
    if target.target_kind.baseline is None:
        return by_mean, NAN  # the composition says nothing about a direction
    references = target_statistics(data.store, data.split.train, target).references
    guess = baseline_values(data.store, data.split.test, target, references)
    return by_mean, float(np.abs(test - guess).mean())
