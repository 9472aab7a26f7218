"""Fit of a `GaussianProcess` to the training part, by ridge regression on its kernel.

Its values for molecules of the training part are those of five-fold cross-validation, by the groups of the split: what
the network has to learn there is what it will have to learn elsewhere. Kernel and noise are chosen by the same folds.
Large data sets have a subset as support (Nyström's method; Williams & Seeger 2000). Letters: n molecules, S of the
support, D descriptors, T numbers of all targets.
"""

import logging

import numpy as np
import torch
from torch import Tensor

from molformer.data.datamodule import StoreDataModule
from molformer.data.splits import scaffold
from molformer.data.statistics import baseline_values, present
from molformer.models.descriptors import DescriptorSet
from molformer.models.gaussian_process import GaussianProcess
from molformer.targets import Label
from molformer.targets.losses import class_loss_sum
from molformer.targets.statistics import TargetStatistics

logger = logging.getLogger(__name__)

SUPPORT = 3000  # most molecules of the support
SAMPLE = 1200  # most molecules with which kernel and noise are chosen
NOISE = (0.01, 0.03, 0.1, 0.3, 1.0)  # variances of the noise, in units of the kernel's, that are tried
FOLDS = 5
KNOWN = 0.1  # share of the other parts with a scaffold of the training part, below which a split is by scaffold
CHUNK = 256  # molecules whose kernels are computed at once
JITTER = 1e-5  # on the diagonal of a kernel, which repeated molecules make singular
PENALTY = 1e-3  # of the logits of classes, which a few molecules may separate


def fit_gaussian_process(
    descriptors: DescriptorSet, data: StoreDataModule, statistics: dict[str, TargetStatistics], seed: int
) -> tuple[GaussianProcess, np.ndarray]:
    """The fitted process, and its values for all structures of the store (n, T), in units of the scales."""
    assert data.inputs is not None
    process = GaussianProcess(descriptors, data.targets)
    inputs = torch.from_numpy(np.array(data.inputs[:, : len(descriptors)], dtype=np.float32))
    labels = [target for target in data.targets if target.name in process.sizes]
    train = data.split.train[inputs[data.split.train].isfinite().any(1).numpy()]
    rng = np.random.default_rng(seed)
    train = rng.permutation(train)
    process.set_statistics(inputs[np.sort(train)].numpy())
    process.set_support(inputs[train[:SUPPORT]])
    wanted = torch.from_numpy(
        np.concatenate([_columns(data, train, each, statistics[each.name]) for each in labels], 1)
    )
    folds = torch.from_numpy(_folds(data, train, seed))
    few = min(SAMPLE, SUPPORT)
    noise = _choose(process, inputs[train[:few]], wanted[:few], folds[:few])
    kernel = _mixed(process, inputs[train])
    factor = torch.linalg.cholesky(kernel[: len(process.support)] + JITTER * torch.eye(len(process.support)))
    features = torch.linalg.solve_triangular(factor, kernel.T, upper=False).T  # (n, S) with features² = kernel
    held_out = torch.zeros_like(wanted)
    for column in range(wanted.shape[1]):
        held_out[:, column] = _held_out(features, wanted[:, column], folds, noise[column])
        weights = _ridge(features, wanted[:, column], noise[column])
        process.weights[:, column] = torch.linalg.solve_triangular(factor.T, weights[:, None], upper=True)[:, 0]
    start = 0
    for label in labels:
        own = slice(start, start + process.sizes[label.name])
        start = own.stop
        process.gain[own], process.offset[own] = _calibrated(label, held_out[:, own], wanted[:, own])
    values = torch.cat([process.values(chunk) for chunk in inputs.split(CHUNK)])
    values[train] = (process.gain * held_out + process.offset).float()
    return process, values.numpy()


def _columns(data: StoreDataModule, rows: np.ndarray, label: Label, statistics: TargetStatistics) -> np.ndarray:
    """What is to be fitted (n, columns of the target), NaN where missing: in units of the scale; ±1 of classes."""
    values = np.asarray(data.store.column(label.name)[rows], dtype=np.float64)
    known = present(values)
    if label.is_class:
        codes = values[:, None] == (np.arange(len(label.classes)) if label.classes else 1)
        return np.where(known[:, None], 2.0 * codes - 1, np.nan)
    values[known] -= baseline_values(data.store, rows, label, statistics.references)
    return values[:, None] / statistics.scale


def _folds(data: StoreDataModule, rows: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each molecule (n,); what the split keeps together is in one, scaffolds if those of the rest are new."""
    groups, rest = data.store.groups[rows], np.concatenate([data.split.val, data.split.test])
    scaffolds, others = ([scaffold(data.store[row].smiles) for row in part] for part in (rows, rest))
    if len(rest) and np.isin(others, [*filter(None, scaffolds)]).mean() < KNOWN:
        named = [name or f"of group {group}" for name, group in zip(scaffolds, groups, strict=True)]
        groups = np.array(named)
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2 * FOLDS:
        names, group = rows, np.arange(len(rows))
    return (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[group]


def _choose(process: GaussianProcess, inputs: Tensor, wanted: Tensor, folds: Tensor) -> Tensor:
    """Set the mix of the kernels, and return the noise of each column (T,), by the errors of cross-validation."""
    kernels = process.kernels(inputs)[..., : len(inputs)].double()
    fingerprints, names = len(kernels) - 1, len(process.descriptors.names)
    mixes = [[1.0] * fingerprints + [0.0]] * bool(fingerprints) + [[0.0] * fingerprints + [1.0]] * bool(names)
    mixes += [[1.0] * (fingerprints + 1)] * (len(mixes) > 1)
    best = (np.inf, process.mix, wanted[0])
    for mix in mixes:
        weights = torch.tensor(mix) / sum(mix)
        kernel = torch.einsum("f,fns->ns", weights.double(), kernels)
        factor = torch.linalg.cholesky(kernel + JITTER * torch.eye(len(kernel)))
        errors = torch.stack(
            [
                torch.stack([(_held_out(factor, column, folds, noise) - column).square().nanmean() for noise in NOISE])
                for column in wanted.T
            ]
        )  # (T, noises)
        lowest, index = errors.min(1)
        if float(lowest.sum()) < best[0]:
            best = (float(lowest.sum()), weights, torch.tensor(NOISE, dtype=torch.float64)[index])
    kinds = [*process.descriptors.fingerprints, "RDKit's descriptors"]
    chosen = ", ".join(kind for kind, weight in zip(kinds, best[1].tolist(), strict=True) if weight)
    logger.info("Gaussian process on %d molecules, with %s", len(process.support), chosen)
    process.mix = best[1]
    return best[2]


def _mixed(process: GaussianProcess, inputs: Tensor) -> Tensor:
    """Kernel with the support (n, S)."""
    parts = [torch.einsum("f,fbs->bs", process.mix, process.kernels(chunk)) for chunk in inputs.split(CHUNK)]
    return torch.cat(parts).double()


def _ridge(features: Tensor, values: Tensor, noise: Tensor | float) -> Tensor:
    """Coefficients (S,) of features (n, S) for values (n,), NaN where missing."""
    known = values.isfinite()
    chosen = features[known]
    gram = chosen.T @ chosen + noise * torch.eye(chosen.shape[1])
    return torch.cholesky_solve(chosen.T @ values[known, None], torch.linalg.cholesky(gram))[:, 0]


def _held_out(features: Tensor, values: Tensor, folds: Tensor, noise: Tensor | float) -> Tensor:
    """Predictions (n,) of each fold from the others; 0 where all others are missing."""
    found = torch.zeros_like(values)
    for fold in range(FOLDS):
        rest = torch.where(folds == fold, torch.nan, values)
        if rest.isfinite().any():
            found[folds == fold] = features[folds == fold] @ _ridge(features, rest, noise)
    return found


def _calibrated(label: Label, held_out: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset (columns,) that make logits of held-out values of classes (n, columns); 1 and 0 for numbers."""
    gain, offset = torch.ones(wanted.shape[1]), torch.zeros(wanted.shape[1])
    if not label.is_class:
        return gain, offset
    known = wanted.isfinite().all(1)
    inputs, classes = held_out[known].float(), wanted[known]
    gain.requires_grad_(), offset.requires_grad_()
    optimizer = torch.optim.LBFGS([gain, offset], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = gain * inputs + offset
        many = logits.shape[1] > 1
        truth = classes.argmax(1).double() if many else (classes[:, 0] > 0).double()
        total, count = class_loss_sum(logits if many else logits[:, 0], truth)
        value = total / count + PENALTY * (gain.square().sum() + offset.square().sum())
        value.backward()
        return value

    optimizer.step(loss)
    return gain.detach(), offset.detach()
