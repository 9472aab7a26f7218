"""Splitting a data set into training, validation and test part.

Structures of one group (geometries of one molecule) are in the same part, except in a given split. A split is
determined by store, policy and seed, on every machine.
"""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Literal

import numpy as np

from molformer.data.drafts import writing
from molformer.data.store import StructureStore
from molformer.errors import ConfigError, InputError, check_choices

logger = logging.getLogger(__name__)

SplitMethod = Literal["auto", "random", "scaffold", "stratified", "file"]

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Indices of the structures in each part, ascending, and the method that was used."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    method: SplitMethod = "random"

    def to_dict(self) -> dict[str, list[int]]:
        """Plain lists, for JSON."""
        return {part: getattr(self, part).tolist() for part in PARTS}


@dataclass(frozen=True)
class SplitPolicy:
    """Policy of a split.

    Args:
        method: `random`; `scaffold` (molecules with one Bemis-Murcko scaffold are in the same part, the largest
            families in training, so that the test part has new scaffolds; molecules without rings are one family,
            unless the training part cannot hold it); `stratified` (by class or decile of `label`); `file` (indices
            as given); `auto`, what `file`, `label` or `folds` ask for, else `scaffold` for molecules that were given as
            SMILES, if they have enough scaffolds, else `random`.
        fractions: of training, validation and test part, with a sum of 1; or numbers of structures (of groups, if there
            are any), without the remainder. Validation and test part may be 0.
        seed: of the random choice.
        label: for `stratified`.
        file: JSON with the lists `train`, `val` and `test`, as a run folder's `split.json`.
        folds: number of folds of a cross-validation, or 0.
        fold: index of the fold that is the test part, from 0.

    Raises:
        ConfigError: the values are inconsistent.
    """

    method: SplitMethod = "random"
    fractions: tuple[float, ...] = (0.8, 0.1, 0.1)
    seed: int = 0
    label: str = ""
    file: str = ""
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        fractions = self.fractions
        counts = all(float(number).is_integer() for number in fractions)
        if len(fractions) != 3 or min(fractions) < 0 or not (_are_shares(fractions) or counts):
            raise ConfigError(
                "split must be three fractions that add up to 1, such as [0.8, 0.1, 0.1], or three numbers of "
                f"structures, such as [1000, 100, 100]; got {list(fractions)}"
            )
        check_choices(self, of="split ")
        for method, needed in (("stratified", self.label), ("file", self.file)):
            if self.method == method and not needed:
                raise ConfigError(f"a split by '{method}' needs {'a label' if method == 'stratified' else 'a file'}")
        if self.folds and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ConfigError(
                f"fold {self.fold} of {self.folds} does not exist: folds count from 0, at least 2 of them"
            )
        if not _are_shares(fractions) and (self.folds or self.method == "scaffold"):
            raise ConfigError("a split by scaffold or into folds takes fractions, not numbers of structures")
        if self.folds and self.method in ("scaffold", "file"):
            raise ConfigError(f"folds are for random and stratified splits, not for '{self.method}'")


def make_split(store: StructureStore, policy: SplitPolicy) -> Split:
    """Split a store.

    Raises:
        ConfigError: a requested part would be empty, or a given file is inconsistent with the store.
        StoreError: the store lacks the label to stratify by.
    """
    method, groups = policy.method, store.groups
    if method == "auto":
        method = "file" if policy.file else "stratified" if policy.label else "scaffold"
        plain = policy.folds or not _are_shares(policy.fractions) or "given" in store.manifest["geometries"]
        if method == "scaffold" and (plain or not len(store.column("smiles.utf8"))):
            method = "random"
        try:
            return make_split(store, replace(policy, method=method))
        except ConfigError:
            if method != "scaffold":
                raise
            logger.info("the molecules have too few scaffolds for a split by scaffold")
            method = "random"
    if method == "file":
        split = _read_split(Path(policy.file), store)
    elif method == "scaffold":
        split = _in_order(_scaffold_families(store, groups, policy.fractions[0]), groups, policy.fractions)
    else:
        strata = _strata(store, policy.label) if method == "stratified" else None
        split = random_split(groups, policy.fractions, policy.seed, strata, policy.folds, policy.fold)
    return replace(split, method=method)


def random_split(
    groups: np.ndarray,
    fractions: Sequence[float],
    seed: int,
    strata: np.ndarray | None = None,
    folds: int = 0,
    fold: int = 0,
) -> Split:
    """Random split of structures by group (n,), and evenly by stratum (n,), which is that of a group's first structure.

    Fractions are of the groups in training, validation and test part, or numbers of groups; folds as of `SplitPolicy`.

    Raises:
        ConfigError: a requested part would be empty.

    Example:
        >>> split = random_split(np.arange(10), (0.8, 0.1, 0.1), seed=0)
        >>> len(split.train), len(split.val), len(split.test)
        (8, 1, 1)
    """
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    if strata is not None:
        # Stable: inside a stratum the random order stays, and each stratum is spread evenly over the whole.
        stratum = strata[first][order]
        rank, size = np.empty(len(order)), np.empty(len(order))
        for value in np.unique(stratum):
            chosen = np.flatnonzero(stratum == value)
            rank[chosen], size[chosen] = np.arange(len(chosen)), len(chosen)
        order = order[np.argsort((rank + 0.5) / size, kind="stable")]
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = _parts(len(names), fractions, folds, fold)
    return _split_of(part_of_group[group], (*fractions[:2], folds or fractions[2]))


def scaffold(smiles: str) -> str:
    """Bemis-Murcko scaffold of a molecule as a SMILES; empty if it has no ring or cannot be read.

    Example:
        >>> scaffold("CCc1ccccc1")
        'c1ccccc1'
    """
    from rdkit import rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    from molformer.data.conformers import canonical_smiles

    try:
        with rdBase.BlockLogs():
            return MurckoScaffold.MurckoScaffoldSmiles(canonical_smiles(smiles), includeChirality=False)
    except InputError:
        return ""


def write_split(split: Split, path: str | os.PathLike[str]) -> None:
    """Write a split as JSON, as `SplitPolicy.file` takes it."""
    with writing(path):
        Path(path).write_text(json.dumps(split.to_dict()) + "\n", encoding="utf-8")


def _are_shares(fractions: Sequence[float]) -> bool:
    return isclose(sum(fractions), 1.0, abs_tol=1e-6)


def _parts(count: int, fractions: Sequence[float], folds: int, fold: int) -> np.ndarray:
    """Part (0, 1, 2, or 3 for none) of each position in a random order."""
    places = np.arange(count)
    if not _are_shares(fractions):
        if sum(fractions) > count:
            raise ConfigError(
                f"a split into {' + '.join(f'{n:.0f}' for n in fractions)} of {count} structures: too many"
            )
        return np.digitize(places, np.cumsum(fractions))  # the remainder is part 3, which is unused
    if not folds:
        first, second = round(fractions[0] * count), round((fractions[0] + fractions[1]) * count)
        return np.digitize(places, [first, second])
    of_fold = places * folds // max(1, count)
    rest = np.flatnonzero(of_fold != fold)
    validation = round(len(rest) * fractions[1] / (fractions[0] + fractions[1]))
    parts = np.where(of_fold == fold, 2, 0)
    parts[rest[len(rest) - validation :]] = 1
    return parts


def _scaffold_families(store: StructureStore, groups: np.ndarray, most: float) -> list[list[int]]:
    """Groups with the same scaffold, by decreasing size; single ones where there is no SMILES.

    Molecules without rings are single too if they are more than `most`, a share, of all.
    """
    names, first = np.unique(groups, return_index=True)
    families: dict[str, list[int]] = defaultdict(list)
    missing = 0
    for name, index in zip(names.tolist(), first.tolist(), strict=True):
        smiles = store[index].smiles
        missing += not smiles
        families[scaffold(smiles) if smiles else f"of group {name}"].append(name)
    if missing == len(names):
        raise ConfigError(f"'{store.path}' has no SMILES, which a split by scaffold needs: choose another split")
    if len(families.get("", ())) > most * len(names):
        families.update((f"of group {name}", [name]) for name in families.pop(""))
    return sorted(families.values(), key=lambda family: -len(family))


def _in_order(families: Iterable[list[int]], groups: np.ndarray, fractions: Sequence[float]) -> Split:
    """Fill training, validation and test part with complete families."""
    names = np.unique(groups)
    limits = [round(fractions[0] * len(names)), round((fractions[0] + fractions[1]) * len(names))]
    part_of_group: dict[int, int] = {}
    counts = [0, 0, 0]
    for family in families:
        fits = [
            not counts[0] or counts[0] + len(family) <= limits[0],
            counts[1] + len(family) <= limits[1] - limits[0],
            True,
        ]
        part = fits.index(True)
        counts[part] += len(family)
        part_of_group.update(dict.fromkeys(family, part))
    return _split_of(np.array([part_of_group[group] for group in groups.tolist()]), fractions)


def _strata(store: StructureStore, name: str) -> np.ndarray:
    """Class or decile of each structure; -1 if the label is missing."""
    label = store.label(name)
    if label.per_node or label.shape:
        raise ConfigError(f"'{name}' is a label of kind '{label.kind}': stratify by a number or class of the structure")
    values = np.array(store.column(name))
    there = np.isfinite(values)
    if label.is_class:
        return np.where(there, values, -1)
    edges = np.quantile(values[there], np.linspace(0, 1, 11)[1:-1]) if there.any() else []
    return np.where(there, np.digitize(values, edges), -1)


def _read_split(path: Path, store: StructureStore) -> Split:
    count = len(store)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        parts = [np.array(values[part], dtype=np.int64) for part in PARTS]
    except FileNotFoundError:
        raise ConfigError(f"there is no split file '{path}'") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"'{path}' is not a split: it needs the lists train, val and test of row numbers") from None
    whole = np.concatenate(parts)
    absent = whole[(whole < 0) | (whole >= count)]
    if len(absent):
        raise ConfigError(f"'{path}' names row {absent[0]} of a store of {count} structures (rows count from 0)")
    if len(np.unique(whole)) < len(whole):
        raise ConfigError(f"'{path}' names a row in more than one part, or twice")
    together = sum(len(np.unique(store.groups[part])) for part in parts)
    if together > len(np.unique(store.groups[whole])):
        logger.warning("'%s' puts structures of one group, such as geometries of one molecule, into two parts", path)
    train, val, test = (np.sort(part) for part in parts)
    return _not_empty(Split(train, val, test), (1, 0, 0))


def _split_of(part: np.ndarray, shares: Sequence[float]) -> Split:
    train, val, test = (np.flatnonzero(part == index) for index in range(3))
    return _not_empty(Split(train, val, test), shares)


def _not_empty(split: Split, shares: Sequence[float]) -> Split:
    for part, share, name in zip(PARTS, (1, *shares[1:]), ("training", "validation", "test"), strict=True):
        if share and len(getattr(split, part)) == 0:
            total = sum(len(getattr(split, other)) for other in PARTS)
            raise ConfigError(f"the {name} part of {total} structures would be empty: change the split")
    return split
