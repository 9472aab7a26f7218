"""Fit of a calibration to the training and validation parts of a data set.

The cost is bounded, however large the data: features of a sample of at most `POOL` training molecules and errors of at
most `MOST` validation molecules are computed. Letters: B graphs, N nodes, M = (lmax+1)² components, C channels, F
invariant features.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from molformer.data.datamodule import StoreDataModule
from molformer.data.sampling import farthest
from molformer.data.statistics import atom_rows
from molformer.graph import GraphBatch
from molformer.models.features import invariant_features
from molformer.models.forward import run_graph
from molformer.models.property import PropertyModel
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.conformal import half_width

REFERENCES = 4096
"""Training molecules to which distances are measured."""

POOL = 20_000
"""Training molecules from which they are chosen; those of rare formulas first."""

MOST = 10_000
"""Validation molecules that are looked at."""


def calibrate_run(model: PropertyModel, data: StoreDataModule) -> Calibration:
    """Calibration of a model that was trained on the training part and chosen on the validation part of some data.

    Args:
        model: the trained model.
        data: its data; which molecules are looked at depends on their seed alone.
    """
    generator = np.random.default_rng(data.seed)
    train = _sample(data.split.train, POOL, generator, _formula_counts(data))
    val = _sample(data.split.val, MOST, generator)
    origins = data.store.manifest["geometries"]
    return calibrate(
        model,
        data.loader(train),
        data.loader(val) if len(val) else [],
        references=REFERENCES,
        charges=np.unique(data.store.column("charge")[data.split.train]).tolist(),
        spins=np.unique(_multiplicities(data)).tolist(),
        geometries=[origins[index] for index in np.unique(data.store.column("geometry")[data.split.val])],
    )


def calibrate(
    model: PropertyModel,
    train: Iterable[GraphBatch],
    val: Iterable[GraphBatch],
    level: float = 0.9,
    references: int = 512,
    charges: Iterable[int] = (),
    spins: Iterable[int] = (),
    geometries: Iterable[str] = (),
) -> Calibration:
    """Measure a trained model on its validation set.

    Args:
        model: is put into evaluation mode.
        train: batches of training molecules; all are looked at.
        val: batches of the validation set, with labels; without any there are no intervals and no percentiles.
        level: of the intervals.
        references: training molecules that are kept: those that lie farthest from each other, so that rare ones count.
        charges: total charges of the whole training set; else those of the molecules that are looked at.
        spins: its multiplicities; else 1 and, if a molecule has an odd number of electrons, 2.
        geometries: origins of the validation geometries; else those of the model's domain.
    """
    model.eval()
    device = next(model.parameters()).device
    seen_charges, seen_spins = set(charges), set(spins)
    count_charges, count_spins = not seen_charges, not seen_spins
    looked_at = []
    for graph in train:
        graph = graph.to(device)
        looked_at.append(_molecule_features(graph, run_graph(model, graph, [])[1]))
        if count_charges:
            seen_charges |= {round(charge) for charge in graph.charge.tolist()}
        if count_spins:
            electrons = graph.sum_over_graphs(graph.numbers) - graph.charge.round().long()
            seen_spins |= {1} | ({2} if (electrons % 2).any() else set())
    train_features = np.concatenate(looked_at)
    mean, scale = train_features.mean(0), train_features.std(0)
    scale = np.maximum(scale, 0.01 * max(float(scale.max()), 1e-6))  # a feature that hardly varies tells little
    standard = (train_features - mean) / scale
    if len(standard) > references:
        standard = standard[farthest(standard.astype(np.float32), references, int(np.square(standard).sum(1).argmin()))]
    kept = standard.astype(np.float16).astype(np.float64)
    part = Calibration(
        {},
        level,
        kept,
        mean,
        scale,
        np.zeros(0),
        tuple(sorted(seen_charges)),
        tuple(sorted(seen_spins)),
        tuple(geometries) or model.domain.geometries,
    )
    distances, errors = [np.zeros(0)], {target.name: [np.zeros(0)] for target in model.targets if not target.is_class}
    for graph in val:
        graph = graph.to(device)
        values, x = run_graph(model, graph, model.targets)
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
    """Some of the indices (n,), drawn without replacement, the likelier the rarer: as 1 / frequency (n,)."""
    if len(indices) <= most:
        return indices
    return np.sort(indices[np.argpartition(generator.exponential(size=len(indices)) * frequency, most)[:most]])


def _formula_counts(data: StoreDataModule) -> np.ndarray:
    """How many molecules of the training part have the formula of each of them: (n,)."""
    store, train = data.store, data.split.train
    numbers = store.column("numbers")[atom_rows(store, train)]
    owner = np.repeat(np.arange(len(train)), store.sizes[train])
    elements, kinds = np.unique(numbers, return_inverse=True)
    formulas = np.zeros((len(train), len(elements)), dtype=np.int32)
    np.add.at(formulas, (owner, kinds), 1)
    _, which, counts = np.unique(formulas, axis=0, return_inverse=True, return_counts=True)
    return counts[which.reshape(-1)]


def _multiplicities(data: StoreDataModule) -> np.ndarray:
    """2S+1 of the training part, as the store says it but at least 2 where the number of electrons is odd."""
    store, train = data.store, data.split.train
    ends = np.cumsum(store.sizes[train])
    protons = np.cumsum(store.column("numbers")[atom_rows(store, train)], dtype=np.int64)[ends - 1]
    electrons = np.diff(protons, prepend=0) - store.column("charge")[train]
    return np.maximum(store.column("spin")[train], 1 + electrons % 2)
