"""Errors of a model on a data set, in physical units, beside the two simplest predictors.

Baselines, both fitted on the training part: `mean` predicts one value for everything (one a molecule, or one an
atom); `composition` predicts from the number of atoms of each element by least squares.
Letters: n values of a target.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.graph import GraphBatch
from molformer.data.points import PointCloudDataModule
from molformer.data.statistics import composition, labelled_values, present, target_statistics
from molformer.data.structure import Label
from molformer.models.property import PropertyModel


@dataclass(frozen=True)
class TargetErrors:
    """Errors of one target on the test part, in the target's unit.

    Args:
        target: name, unit and kind.
        count: labelled molecules or atoms.
        error: mean absolute error of the model; of a vector or tensor, the mean length of the error; of a class, the
            share of wrong answers.
        rmse: root mean square error of the model; NaN for a class.
        error_mean: the same as `error` of the mean predictor, for a class of the most frequent one.
        error_composition: the same of the composition predictor; NaN where the composition says nothing.
        roc_auc: area under the ROC curve of a binary target; NaN for others, or if one of the answers is absent.
    """

    target: Label
    count: int
    error: float
    rmse: float
    error_mean: float
    error_composition: float
    roc_auc: float = float("nan")


def predict_batches(model: PropertyModel, batches: Iterable[GraphBatch]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predictions and labels of a whole data set, by target, in its order; probabilities for classes.

    Args:
        model: is put into evaluation mode.
        batches: with labels.

    Returns:
        By target name: predictions and labels, (n,) or (n, 3), in the target's unit.
    """
    device = next(model.parameters()).device
    names = [target.name for target in model.targets]
    predictions: dict[str, list[np.ndarray]] = {name: [] for name in names}
    labels: dict[str, list[np.ndarray]] = {name: [] for name in names}
    model.eval()
    with torch.no_grad():
        for graph in batches:
            values = model(graph.to(device))
            for target in model.targets:
                value = values[target.name]
                value = model.probabilities(target, value) if target.is_class else value
                predictions[target.name].append(value.detach().double().cpu().numpy())
                labels[target.name].append(graph.labels[target.name].double().cpu().numpy())
    return {name: (np.concatenate(predictions[name]), np.concatenate(labels[name])) for name in names}


def evaluate(
    predicted: dict[str, tuple[np.ndarray, np.ndarray]], data: MoleculeDataModule | PointCloudDataModule
) -> list[TargetErrors]:
    """Errors of every target on the test part, beside the baselines.

    Args:
        predicted: what `predict_batches` gives for the test part.
        data: where the baselines are fitted and tested.
    """
    rows = []
    for target in data.targets:
        prediction, label = predicted[target.name]
        kept = present(label)
        if target.is_class:
            rows.append(_class_errors(target, prediction[kept], label[kept].astype(int), data))
            continue
        sizes = _sizes(prediction[kept] - label[kept])
        by_mean, by_composition = _baselines(data, target)
        rows.append(
            TargetErrors(
                target=target,
                count=len(sizes),
                error=_mean(sizes),
                rmse=float(np.sqrt(_mean(sizes**2))),
                error_mean=_mean(_sizes(by_mean)),
                error_composition=_mean(_sizes(by_composition)),
            )
        )
    return rows


def _class_errors(
    target: Label, probability: np.ndarray, label: np.ndarray, data: MoleculeDataModule | PointCloudDataModule
) -> TargetErrors:
    """Share of wrong answers, and the area under the ROC curve of a binary target."""
    answer = probability.argmax(-1) if target.kind == "category" else (probability > 0.5).astype(int)
    train, _ = labelled_values(data.store, data.split.train, target)
    frequent = np.bincount(train.astype(int)).argmax()
    area = float("nan")
    if target.kind == "binary" and 0 < label.sum() < len(label):
        area = float(binary_auroc(torch.from_numpy(probability), torch.from_numpy(label)))
    return TargetErrors(
        target, len(label), _mean(answer != label), float("nan"), _mean(label != frequent), float("nan"), area
    )


def _baselines(data: MoleculeDataModule | PointCloudDataModule, target: Label) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean and of the composition predictor on the test part."""
    train, _ = labelled_values(data.store, data.split.train, target)
    test, numbers = labelled_values(data.store, data.split.test, target)
    by_mean = test - train.mean(axis=0)
    references = target_statistics(data.store, data.split.train, target).references
    if target.kind in ("extensive", "intensive"):
        design = composition(data.store, data.split.test, target)
        return by_mean, test - design @ references[data.store.elements]
    if target.kind in ("charges", "atom"):
        return by_mean, test - references[numbers]
    if target.kind == "tensor":
        isotropic = composition(data.store, data.split.test, target) @ references[data.store.elements]
        return by_mean, test - isotropic[:, None, None] * np.eye(3)
    return by_mean, np.full_like(test, np.nan)  # the composition says nothing about a direction


def _sizes(errors: np.ndarray) -> np.ndarray:
    return np.abs(errors) if errors.ndim == 1 else np.linalg.norm(errors.reshape(len(errors), -1), axis=-1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
