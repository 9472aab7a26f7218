"""Fit of a calibration to the training and validation parts of a data set.

The cost is bounded, however large the data: features of a sample of at most `POOL` training molecules and errors of at
most `MOST` validation molecules are computed. Letters: B graphs, N nodes, M = (lmax+1)² components, C channels, F
invariant features.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from molformer.data.datamodule import StoreDataModule
from molformer.data.sampling import farthest
from molformer.data.several_conformers import averaged
from molformer.data.statistics import atom_rows
from molformer.graph import GraphBatch
from molformer.models.features import invariant_features
from molformer.models.forward import run_graph
from molformer.models.property import PropertyModel
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.conformal import half_width

REFERENCES = 4096
"""Number of reference molecules, to which distances are measured."""

POOL = 20_000
"""Largest number of training molecules from which references are chosen; rare formulas have priority."""

MOST = 10_000
"""Largest number of validation molecules."""


def calibrate_run(model: PropertyModel, data: StoreDataModule) -> Calibration:
    """Calibration of a trained model on the training and validation parts of its data set."""
    generator = np.random.default_rng(data.seed)
    train = _sample(data.split.train, POOL, generator, _formula_counts(data))
    val = _sample(data.split.val, MOST, generator)
    origins = data.store.manifest["geometries"]
    return calibrate(
        model,
        data.loader(train),
        data.loader(val) if len(val) else [],
        references=REFERENCES,
        charges=tuple(np.unique(data.store.column("charge")[data.split.train]).tolist()),
        spins=tuple(np.unique(data.store.column("spin")[data.split.train]).tolist()),
        geometries=tuple(origins[index] for index in np.unique(data.store.column("geometry")[data.split.val])),
    )


def calibrate(
    model: PropertyModel,
    train: Iterable[GraphBatch],
    val: Iterable[GraphBatch],
    level: float = 0.9,
    references: int = 512,
    **origin: Any,
) -> Calibration:
    """Calibrate a trained model on its validation set.

    Args:
        model: is put into evaluation mode.
        train: batches of training molecules.
        val: batches of the validation set, with labels; without any there are no intervals and no percentiles.
        level: of the intervals.
        references: number of reference molecules, chosen among the training molecules by farthest-point sampling.
        origin: charges, spins and geometries of the `Calibration`.
    """
    model.eval()
    device = next(model.parameters()).device
    features = []
    for graph in train:
        graph = graph.to(device)
        features.append(_molecule_features(graph, run_graph(model, graph, [])[1]))
    train_features = np.concatenate(features)
    mean, scale = train_features.mean(0), train_features.std(0)
    scale = np.maximum(scale, 0.01 * max(float(scale.max()), 1e-6))  # limits the weight of nearly constant features
    standard = (train_features - mean) / scale
    if len(standard) > references:
        standard = standard[farthest(standard.astype(np.float32), references, int(np.square(standard).sum(1).argmin()))]
    rounded = standard.astype(np.float16).astype(np.float64)
    part = Calibration({}, level, rounded, mean, scale, np.zeros(0), **origin)
    numbers = [target for target in model.targets if not target.is_class]
    distances, errors = [np.zeros(0)], {target.name: [np.zeros(0)] for target in numbers}
    for graph in val:
        graph = graph.to(device)
        values, x = run_graph(model, graph, numbers)
        values = averaged(values, graph, lambda each: run_graph(model, each, numbers)[0], numbers)
        distances.append(part.distance(_molecule_features(graph, x)))
        for name in errors.keys() & graph.labels.keys():
            difference = (values[name].double() - graph.labels[name].double()).abs()
            errors[name].append(difference[difference.isfinite()].cpu().numpy())
    widths = {name: half_width(np.concatenate(parts), level) for name, parts in errors.items()}
    return replace(
        part,
        distances=np.sort(np.concatenate(distances)),
        half_widths={name: width for name, width in widths.items() if math.isfinite(width)},
    )


def _molecule_features(graph: GraphBatch, x: torch.Tensor) -> np.ndarray:
    """Mean over the atoms of the invariant features (N, M, C): (B, F)."""
    return graph.mean_over_graphs(invariant_features(x).double()).cpu().numpy()


def _sample(
    indices: np.ndarray, most: int, generator: np.random.Generator, frequency: np.ndarray | float = 1.0
) -> np.ndarray:
    """At most `most` of the indices (n,), drawn without replacement with weights 1 / frequency (n,)."""
    if len(indices) <= most:
        return indices
    return np.sort(indices[np.argpartition(generator.exponential(size=len(indices)) * frequency, most)[:most]])


def _formula_counts(data: StoreDataModule) -> np.ndarray:
    """For each training molecule, the number of those with the same formula (n,)."""
    store, train = data.store, data.split.train
    numbers = store.column("numbers")[atom_rows(store, train)]
    owner = np.repeat(np.arange(len(train)), store.sizes[train])
    elements, kinds = np.unique(numbers, return_inverse=True)
    formulas = np.zeros((len(train), len(elements)), dtype=np.int32)
    np.add.at(formulas, (owner, kinds), 1)
    _, which, counts = np.unique(formulas, axis=0, return_inverse=True, return_counts=True)
    return counts[which.reshape(-1)]
