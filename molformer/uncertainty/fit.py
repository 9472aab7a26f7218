"""Fit of a calibration to the training and validation parts of a data set.

The cost is bounded, however large the data: features of a sample of at most `POOL` training molecules and errors of at
most `MOST` validation molecules are computed. Letters: N nodes, F invariant features.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from molformer.data.datamodule import StoreDataModule
from molformer.data.several_conformers import averaged
from molformer.data.statistics import atom_rows
from molformer.graph import GraphBatch
from molformer.models.features import invariant_features
from molformer.models.forward import run_graph
from molformer.models.property import PropertyModel
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.difficulty import Distance, fit_difficulty, half_width, molecule_inputs

POOL = 20_000
"""Largest number of training molecules to which distances refer; rare formulas have priority."""

MOST = 10_000
"""Largest number of validation molecules."""


def calibrate_run(model: PropertyModel, data: StoreDataModule) -> Calibration:
    """Calibration of a trained model on the training and validation parts of its data set."""
    generator = np.random.default_rng(data.seed)
    train = _sample(data.split.train, POOL, generator, _formula_counts(data))
    val = _sample(data.split.val, MOST, generator)
    origins = data.store.manifest["geometries"]
    geometries = data.store.column("geometry")[data.split.val]
    return calibrate(
        model,
        data.loader(train),
        data.loader(val) if len(val) else [],
        methods=[origins[index] for index in data.store.column("geometry")[val]],
        groups=data.store.groups[val],
        charges=tuple(np.unique(data.store.column("charge")[data.split.train]).tolist()),
        spins=tuple(np.unique(data.store.column("spin")[data.split.train]).tolist()),
        geometries=tuple(origins[index] for index in np.unique(geometries)),
    )


def calibrate(
    model: PropertyModel,
    train: Iterable[GraphBatch],
    val: Iterable[GraphBatch],
    level: float = 0.9,
    methods: Sequence[str] = (),
    groups: np.ndarray | None = None,
    **origin: Any,
) -> Calibration:
    """Calibrate a trained model on its validation set.

    Args:
        model: is put into evaluation mode.
        train: batches of training molecules.
        val: batches of the validation set, with labels; without any there are no intervals and no percentiles.
        level: of the intervals.
        methods: geometry method of each validation molecule; `given` by default.
        groups: group of each validation molecule, for instance the geometries of one molecule; its own by default.
        origin: charges, spins and geometries of the `Calibration`.
    """
    model.eval()
    device = next(model.parameters()).device

    def atoms(graph: GraphBatch, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        return invariant_features(x).double().cpu().numpy(), graph.numbers.cpu().numpy()

    distance = Distance.fit(atoms(graph, run_graph(model, graph.to(device), [])[1]) for graph in train)
    targets = [target for target in model.targets if not target.is_class]
    inputs, errors = [], {target.name: [np.zeros(0)] for target in targets}
    for graph in val:
        graph = graph.to(device)
        values, x = run_graph(model, graph, targets)
        values = averaged(values, graph, lambda each: run_graph(model, each, targets)[0], targets)
        inputs.append(molecule_inputs(distance, *atoms(graph, x), graph.sizes.cpu().numpy()))
        for name in errors.keys() & graph.labels.keys():
            errors[name].append((values[name].double() - graph.labels[name].double()).abs().cpu().numpy())
    found = {name: np.concatenate([each.reshape(-1) for each in parts]) for name, parts in errors.items()}
    widths = {name: half_width(each[np.isfinite(each)], level) for name, each in found.items()}
    widths = {name: width for name, width in widths.items() if math.isfinite(width)}
    molecules = np.concatenate([np.zeros((0, model.num_features + 3)), *inputs])
    scalars = {target.name for target in targets if not target.shape and not target.per_node}
    scalars = {name for name in scalars & widths.keys() if len(found[name]) == len(molecules)}
    groups = np.arange(len(molecules)) if groups is None else groups
    varying = {name: found[name] for name in found if name in scalars}
    difficulty = fit_difficulty(distance, molecules, methods or ["given"] * len(molecules), groups, varying, level)
    return Calibration(widths, level, difficulty=difficulty, **origin)


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
