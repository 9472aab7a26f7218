"""Difficulty: the size of the error that is expected for a molecule, and interval half-widths proportional to it.

Locally weighted split-conformal prediction (Lei et al. 2018, arXiv 1604.04173): σ(x) = exp(w·x) is fitted to the
absolute errors of one half of the validation part. On the other half, half-widths are the conformal quantile of
|error| / σ(x), apart for each geometry method and range of σ (Mondrian categories: Vovk et al. 2003), so that coverage
holds in each of them. Above the sizes and distances of the validation part σ grows in proportion, below as a root.
Letters: B molecules, N atoms, F features of an atom, D = F + 3 inputs, T targets, G geometry methods, K ranges of σ.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np

from molformer.elements import MAX_NUMBER

FEWEST = 200
"""Number of labelled validation molecules from which on half-widths of a target, or those of a method, vary."""

_RARE = 0.005  # share of validation molecules below, and above, the limits of sizes and distances

BOUND = 0.02
"""Share of validation molecules whose log σ is below, and above, `Difficulty.bounds`."""

PER_RANGE, RANGES = 200, 6
"""Least number of molecules in a range of σ, and the largest number of ranges."""


def geometry_family(geometry: str) -> str:
    """Origin of a geometry without details: `given`, `etkdg` or `relaxed`.

    Example:
        >>> geometry_family("etkdg+mmff, not converged")
        'relaxed'
    """
    return "relaxed" if "+" in geometry else geometry.partition(",")[0]


def half_width(errors: np.ndarray, level: float) -> float:
    """Half-width of a split-conformal interval from absolute errors (n,); infinite if there are too few.

    With the k-th smallest |error| of n validation values, k = ⌈(n+1) level⌉, as half-width, an interval covers an
    exchangeable value with a probability of at least `level`.

    Example:
        >>> half_width(np.arange(1.0, 10.0), 0.9), half_width(np.arange(1.0, 9.0), 0.9)
        (9.0, inf)
    """
    rank = int(np.ceil((len(errors) + 1) * level - 1e-9))
    return float(np.partition(errors, rank - 1)[rank - 1]) if 0 < rank <= len(errors) else np.inf


@dataclass(frozen=True, eq=False)
class Distance:
    """Mahalanobis distance of atoms to those of their element in the training set (Lee et al. 2018, arXiv 1807.03888).

    Args:
        elements: atomic numbers, ascending (Z,).
        centers: mean features of the atoms of each element (Z, F).
        whitening: (F, F), whose product with its transpose is the inverse of the covariance about these means.
    """

    elements: np.ndarray
    centers: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Self:
        """From the features (N, F) of the atoms of each batch, and their atomic numbers (N,)."""
        counts, sums, products = np.zeros(MAX_NUMBER + 1), np.zeros(1), np.zeros(1)
        for features, numbers in batches:
            of_element = np.zeros((len(counts), features.shape[1]))
            np.add.at(of_element, numbers, features)
            counts += np.bincount(numbers, minlength=len(counts))
            sums, products = sums + of_element, products + features.T @ features
        elements = np.flatnonzero(counts)
        counts = counts[elements, None]
        centers = sums[elements] / counts
        covariance = (products - (counts * centers).T @ centers) / counts.sum()
        ridge = 0.01 * max(np.trace(covariance) / len(covariance), 1e-6)  # limits the weight of constant directions
        whitening = np.linalg.inv(np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))).T
        return cls(elements, centers, whitening)

    def of_atoms(self, features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Mean squared component of the whitened difference to the center (N,), about 1 for an atom of the training."""
        nearest = np.abs(self.elements[:, None] - numbers).argmin(0)
        return np.square((features - self.centers[nearest]) @ self.whitening).mean(1)


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Expected errors of molecules.

    Args:
        distance: of atoms to those of the training set.
        methods: geometry methods (G,), the most frequent first, see `Structure.geometry`.
        targets: names of the targets whose half-widths vary (T,).
        limits: logarithms of the numbers of atoms and heavy atoms and of the distance of nearly all validation
            molecules, smallest and largest (2, 3).
        weights: of the inputs, then the intercepts of the methods, in log σ of each target and, last, in the mean over
            targets of the error relative to the mean error of the method (T + 1, D + G).
        bounds: log σ of nearly all validation molecules, smallest and largest, where the ridge ends (2, T).
        edges: of the ranges of log σ, ascending (T, G, K - 1); infinite where there are fewer ranges.
        ratios: half-width / σ in each range (T, G, K).
        scores: of validation molecules, ascending, for each method, see `assess`.
    """

    distance: Distance
    methods: tuple[str, ...]
    targets: tuple[str, ...]
    limits: np.ndarray
    weights: np.ndarray
    bounds: np.ndarray
    edges: np.ndarray
    ratios: np.ndarray
    scores: tuple[np.ndarray, ...] = ()

    def assess(self, inputs: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log σ of the targets (B, T), and scores (B,): the logarithm of the expected relative error, without targets
        that of the distance.

        Args:
            inputs: of the molecules, see `molecule_inputs` (B, D).
            places: of their geometry methods, see `places` (B,).
        """
        sizes = inputs[:, -3:]
        inside = np.clip(sizes, *self.limits)
        # Measured for QM9: of molecules smaller than nearly all others, errors grow as the root of the ratio of sizes.
        beyond = np.maximum((sizes - inside).max(1), 0.5 * (inside - sizes)[:, :2].max(1))
        if not self.targets:
            return np.zeros((len(inputs), 0)), inside[:, 2] + beyond
        split = inputs.shape[1]
        linear = np.concatenate([inputs[:, :-3], inside], 1) @ self.weights[:, :split].T
        linear += self.weights[:, split:].T[places]
        return np.clip(linear[:, :-1], *self.bounds) + beyond[:, None], np.log(np.maximum(linear[:, -1], 0.1)) + beyond

    def places(self, methods: Sequence[str]) -> np.ndarray:
        """Index of the most similar of the geometry methods for each of these (B,)."""
        families = [geometry_family(each) for each in self.methods]
        found = {}
        for method in set(methods):
            name, family = method.partition(",")[0], geometry_family(method)
            similar = families.index(family) if family in families else 0
            found[method] = self.methods.index(name) if name in self.methods else similar
        return np.array([found[method] for method in methods], dtype=np.int64)

    def half_widths(self, log_sigma: np.ndarray, places: np.ndarray) -> dict[str, np.ndarray]:
        """Half-widths (B,) by target name, from log σ (B, T)."""
        found = {}
        for row, name in enumerate(self.targets):
            ranges = (log_sigma[:, row, None] > self.edges[row, places]).sum(1)
            found[name] = np.exp(log_sigma[:, row]) * self.ratios[row, places, ranges]
        return found


def molecule_inputs(
    distance: Distance, features: np.ndarray, numbers: np.ndarray, sizes: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Inputs of `Difficulty` (B, D): mean features, logarithms of the numbers of atoms and heavy atoms, and of the
    root-mean-square distance of the atoms.

    Args:
        distance: of atoms.
        features: of the atoms of all molecules (N, F).
        numbers: their atomic numbers (N,).
        sizes: numbers of atoms of the molecules (B,).
    """
    starts = np.cumsum([0, *sizes[:-1]])
    counts = np.asarray(sizes, dtype=np.float64)
    columns = np.column_stack([features, distance.of_atoms(features, numbers)])
    means = np.add.reduceat(columns, starts) / counts[:, None]
    heavy = np.add.reduceat(numbers > 1, starts, dtype=np.int64)
    far = 0.5 * np.log(means[:, -1] + 1e-12)
    return np.column_stack([means[:, :-1], np.log(counts), np.log(np.maximum(heavy, 1)), far])


def fit_difficulty(
    distance: Distance,
    inputs: np.ndarray,
    methods: Sequence[str],
    groups: np.ndarray,
    errors: Mapping[str, np.ndarray],
    level: float,
) -> Difficulty:
    """Fit to validation molecules.

    Args:
        distance: of atoms.
        inputs: of the molecules (V, D).
        methods: their geometry methods (V,).
        groups: molecules of one group are in the same half (V,).
        errors: absolute errors by target name (V,), NaN where there is no label.
        level: nominal coverage.
    """
    known, counts = np.unique([each.partition(",")[0] for each in methods], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = tuple(str(known[place]) for place in order if counts[place] >= min(FEWEST, counts.max())) or ("given",)
    distinct, group = np.unique(groups, return_inverse=True)
    first = (np.random.default_rng(0).permutation(len(distinct)) % 2 == 0)[group]
    halves = {name: np.stack([first, ~first]) & np.isfinite(each) for name, each in errors.items()}
    targets = tuple(name for name, half in halves.items() if half.sum(1).min() >= 0.4 * FEWEST)
    found = Difficulty(
        distance,
        kept,
        targets,
        np.quantile(inputs[:, -3:], [_RARE, 1 - _RARE], axis=0) if len(inputs) else np.zeros((2, 3)),
        np.zeros((len(targets) + 1, inputs.shape[1] + len(kept))),
        np.array([[-np.inf], [np.inf]]).repeat(len(targets), 1),
        np.full((len(targets), len(kept), RANGES - 1), np.inf),
        np.ones((len(targets), len(kept), RANGES)),
    )
    places = found.places(methods)
    design = np.column_stack([inputs, np.eye(len(kept))[places]])
    relative = np.full((len(targets) + 1, len(inputs)), np.nan)
    for row, name in enumerate(targets):
        mine, errors_of = halves[name][0], errors[name]
        smallest = 0.05 * np.median(errors_of[mine]) + 1e-12
        found.weights[row] = _ridge(design[mine], np.log(errors_of[mine] + smallest), len(kept))
        means = [
            errors_of[mine & (places == place)].mean() if (mine & (places == place)).any() else 1.0
            for place in range(len(kept))
        ]
        relative[row] = errors_of / (np.array(means) + 1e-12)[places]
    if targets:
        labelled = first & np.isfinite(relative).any(0)
        found.weights[-1] = _ridge(design[labelled], np.nanmean(relative[:, labelled], axis=0), len(kept))
    for row, name in enumerate(targets):
        log_sigma = found.assess(inputs[halves[name][0]], places[halves[name][0]])[0]
        found.bounds[:, row] = np.quantile(log_sigma[:, row], [BOUND, 1 - BOUND])
    log_sigma, scores = found.assess(inputs, places)
    for (row, name), place in product(enumerate(targets), range(len(kept))):
        mine = halves[name][1] & (places == place)
        mine = mine if mine.sum() >= 20 else halves[name][1]  # those of all methods
        values, ratio = log_sigma[mine, row], errors[name][mine] / np.exp(log_sigma[mine, row])
        count = int(np.clip(len(values) // PER_RANGE, 1, RANGES))
        found.edges[row, place, : count - 1] = np.quantile(values, np.arange(1, count) / count)
        ranges = (values[:, None] > found.edges[row, place]).sum(1)
        found.ratios[row, place, :count] = [half_width(ratio[ranges == each], level) for each in range(count)]
    judged = ~first if targets else np.ones_like(first)  # to which nothing was fitted
    return replace(found, scores=tuple(np.sort(scores[judged & (places == place)]) for place in range(len(kept))))


def _ridge(design: np.ndarray, wanted: np.ndarray, methods: int) -> np.ndarray:
    """Weights (D + G,) of a ridge regression, the last of which are the intercepts of the methods."""
    from sklearn.linear_model import RidgeCV

    mean, scale = design.mean(0), design.std(0)
    scale = np.maximum(scale, 0.01 * scale[:-methods].max() + 1e-12)  # limits the weight of nearly constant inputs
    ridge = RidgeCV(np.logspace(0, 5, 11)).fit((design - mean) / scale, wanted)
    weights = ridge.coef_ / scale
    weights[-methods:] += ridge.intercept_ - weights @ mean
    return weights
