"""Summary of a store as text: counts, elements, distributions of labels, and missing values."""

from collections.abc import Sequence

import numpy as np

from molformer.data.statistics import present
from molformer.data.store import StructureStore
from molformer.elements import SYMBOLS
from molformer.targets import Label

_BARS = " ▁▂▃▄▅▆▇█"
_SAMPLE = 200_000  # largest number of values of a per-atom label


def describe(store: StructureStore) -> list[tuple[str, str]]:
    """Properties of a store as pairs of a heading and a text."""
    sizes = store.sizes
    spread = f"{sizes.min()} to {sizes.max()}, mean {sizes.mean():.1f}"
    groups = len(np.unique(store.groups))
    counts = np.bincount(store.column("numbers"), minlength=len(SYMBOLS))
    charged = int((store.column("charge") != 0).sum())
    open_shell = int((store.column("spin") != 1).sum())
    facts = [
        ("file", f"{store.path}, {store.path.stat().st_size / 1e6:.1f} MB, format {store.manifest['format']}"),
        ("source", store.manifest["source"] or "not recorded"),
        ("structures", f"{len(store)}, with {store.manifest['atoms']} atoms: {spread}"),
        ("groups", f"{groups}" + (" (each structure is one)" if groups == len(store) else "")),
        ("elements", ", ".join(f"{SYMBOLS[number]} {counts[number]}" for number in store.elements)),
        ("geometries", ", ".join(store.manifest["geometries"])),
        ("charged, open-shell", f"{charged}, {open_shell}"),
        ("content sha256", store.manifest["sha256"]),
    ]
    if "cell" in store.columns:
        periodic = int(present(store.column("cell")).sum())
        facts.append(("periodic", str(periodic)))
    if "features" in store.columns:
        facts.append(("features a point", str(store.column("features").shape[1])))
    return facts


def describe_labels(store: StructureStore) -> list[list[str]]:
    """A row for each label: name, unit, kind, number of missing values, mean, lowest, histogram, highest."""
    return [_describe_label(store, label) for label in store.labels.values()]


def histogram(values: np.ndarray, bins: int = 8) -> str:
    """A histogram of finite numbers in one line of text.

    Example:
        >>> histogram(np.array([0.0, 0.0, 0.0, 1.0]), bins=2)
        '█▃'
    """
    counts, _ = np.histogram(values, bins)
    heights = np.ceil(counts / max(1, counts.max()) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[height] for height in heights)


def _describe_label(store: StructureStore, label: Label) -> list[str]:
    column = store.column(label.name)
    there = present(column[:])
    head = [label.name, label.unit, label.kind, str(int((~there).sum()))]
    if not there.any():
        return [*head, *[""] * 4]
    values = np.asarray(column[np.flatnonzero(there)[:_SAMPLE]], dtype=np.float64)
    if label.classes:
        return [*head, "", "", _classes(values, label.classes), ""]
    if label.shape:  # norms of vectors and tensors
        values = np.sqrt((values**2).sum(axis=tuple(range(1, values.ndim))))
    mean, lowest, highest = (f"{number:.4g}" for number in (values.mean(), values.min(), values.max()))
    return [*head, mean, lowest, histogram(values), highest]


def _classes(values: np.ndarray, names: Sequence[str]) -> str:
    counts = np.bincount(values.astype(int), minlength=len(names))
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
