"""Errors of a model on a data set, in physical units, beside the two simplest predictors.

Baselines, both fitted on the training part: `mean` predicts one value for everything (one a molecule, or one an
atom); `composition` predicts from the number of atoms of each element by least squares.
Letters: n values of a target.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.graph import GraphBatch
from molformer.data.statistics import composition, labelled_values, present, target_statistics
from molformer.data.structure import Label
from molformer.models.property import PropertyModel


@dataclass(frozen=True)
class TargetErrors:
    """Errors of one target on the test part, in the target's unit.

    Args:
        target: name, unit and kind.
        count: labelled molecules or atoms.
        mae: mean absolute error of the model; of a vector, the mean length of the error.
        rmse: root mean square error of the model.
        mae_mean: mean absolute error of the mean predictor.
        mae_composition: mean absolute error of the composition predictor.
    """

    target: Label
    count: int
    mae: float
    rmse: float
    mae_mean: float
    mae_composition: float


def predict_batches(model: PropertyModel, batches: Iterable[GraphBatch]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predictions and labels of a whole data set, by target, in its order.

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
            for name in names:
                predictions[name].append(values[name].double().cpu().numpy())
                labels[name].append(graph.labels[name].double().cpu().numpy())
    return {name: (np.concatenate(predictions[name]), np.concatenate(labels[name])) for name in names}


def evaluate(predicted: dict[str, tuple[np.ndarray, np.ndarray]], data: MoleculeDataModule) -> list[TargetErrors]:
    """Errors of every target on the test part, beside the baselines.

    Args:
        predicted: what `predict_batches` gives for the test part.
        data: where the baselines are fitted and tested.
    """
    rows = []
    for target in data.targets:
        prediction, label = predicted[target.name]
        kept = present(label)
        sizes = _sizes(prediction[kept] - label[kept])
        by_mean, by_composition = _baselines(data, target)
        rows.append(
            TargetErrors(
                target=target,
                count=len(sizes),
                mae=_mean(sizes),
                rmse=float(np.sqrt(_mean(sizes**2))),
                mae_mean=_mean(_sizes(by_mean)),
                mae_composition=_mean(_sizes(by_composition)),
            )
        )
    return rows


def _baselines(data: MoleculeDataModule, target: Label) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean and of the composition predictor on the test part."""
    train, _ = labelled_values(data.store, data.split.train, target)
    test, numbers = labelled_values(data.store, data.split.test, target)
    by_mean = test - train.mean(axis=0)
    references = target_statistics(data.store, data.split.train, target).references
    if target.kind in ("extensive", "intensive"):
        design = composition(data.store, data.split.test, target)
        return by_mean, test - design @ references[data.store.elements]
    if target.kind == "charges":
        return by_mean, test - references[numbers]
    return by_mean, by_mean  # the composition says nothing about a direction


def _sizes(errors: np.ndarray) -> np.ndarray:
    return np.abs(errors) if errors.ndim == 1 else np.linalg.norm(errors, axis=-1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
