"""Statistics of a target on the training part: element references and residual standard deviation.

An extensive target is fitted by least squares on the number of atoms of each element, an intensive one on their
fractions, values per atom by the mean of each element, a tensor like an extensive target by its isotropic part. These
fits are also the composition baseline; that of a second moment has the squared distances from the centre as well.
Vectors, their lengths, forces and stress have zero references.
Letters: n structures, Z = MAX_NUMBER + 1 element slots.
"""

import numpy as np

from molformer.data.store import StructureStore, ragged_rows
from molformer.elements import MAX_NUMBER
from molformer.errors import ConfigError
from molformer.targets import Label
from molformer.targets.statistics import TargetStatistics


def target_statistics(store: StructureStore, indices: np.ndarray, label: Label) -> TargetStatistics:
    """Statistics of a label over the structures `indices`, without missing labels.

    Raises:
        ConfigError: none of these structures has the label.
    """
    values, numbers = labelled_values(store, indices, label)
    if len(values) == 0:
        raise ConfigError(f"no structure of the training part has a value of '{label.name}': choose another target")
    baseline = label.target_kind.baseline
    references = np.zeros((2, MAX_NUMBER + 1) if baseline == "moment" else MAX_NUMBER + 1)
    size = float(store.sizes[indices].mean())
    if label.is_class:
        return TargetStatistics(references, 1.0, size)
    if baseline == "element":
        for element in store.elements:
            chosen = numbers == element
            references[element] = _isotropic(values[chosen]).mean() if chosen.any() else 0.0
    elif baseline is not None:
        design = composition(store, indices, label)
        fitted = np.linalg.lstsq(design, _isotropic(values), rcond=None)[0]
        references[..., store.elements] = fitted.reshape(*references.shape[:-1], -1)
    rest = values - baseline_values(store, indices, label, references)
    scale = float(np.sqrt(np.mean(rest**2)))
    return TargetStatistics(references, scale if scale > 0 else 1.0, size)


def baseline_values(
    store: StructureStore, indices: np.ndarray, label: Label, references: np.ndarray
) -> np.ndarray | float:
    """Predictions of the composition baseline for `labelled_values`; 0 if there is no baseline.

    The coefficients of the elements are `references` (Z,), or (2, Z) of a second moment.
    """
    kind = label.target_kind
    if kind.baseline is None:
        return 0.0
    if kind.baseline == "element":
        coefficients = references[labelled_values(store, indices, label)[1]]
    else:
        coefficients = composition(store, indices, label) @ references[..., store.elements].ravel()
    return coefficients.reshape(-1, *[1] * len(kind.shape)) * kind.identity


def _isotropic(values: np.ndarray) -> np.ndarray:
    """Scalars unchanged, and a third of the trace of matrices."""
    return np.trace(values, axis1=1, axis2=2) / 3 if values.ndim > 1 else values


def labelled_values(store: StructureStore, indices: np.ndarray, label: Label) -> tuple[np.ndarray, np.ndarray]:
    """Non-missing values of a label and, for per-atom labels, their atomic numbers."""
    column = store.column(label.name)
    if not label.per_node:
        values = column[indices].astype(np.float64)
        return values[present(values)], np.empty(0, dtype=np.int64)
    rows = atom_rows(store, indices)
    values = column[rows].astype(np.float64)
    labelled = present(values)
    return values[labelled], store.column("numbers")[rows][labelled].astype(np.int64)


def composition(store: StructureStore, indices: np.ndarray, label: Label) -> np.ndarray:
    """Number of atoms by element (n, elements) of labelled structures, or fractions for a mean.

    For a second moment, beside them the sum over atoms of an element of the squared distance from the centre, Å².
    """
    rows = indices[present(store.column(label.name)[indices])]
    sizes, atoms = store.sizes[rows], atom_rows(store, rows)
    slot = np.full(MAX_NUMBER + 1, -1)
    slot[store.elements] = np.arange(len(store.elements))
    counts = np.zeros((len(rows), len(store.elements)))
    owner, numbers = np.repeat(np.arange(len(rows)), sizes), store.column("numbers")[atoms]
    np.add.at(counts, (owner, slot[numbers]), 1.0)
    if label.target_kind.baseline != "moment":
        return counts / sizes[:, None] if label.target_kind.baseline == "mean" else counts
    pos, weight = store.column("pos")[atoms].astype(np.float64), np.maximum(numbers, 1.0)  # as `moments.centred` has it
    starts, moments = np.cumsum(sizes) - sizes, np.zeros_like(counts)
    centres = np.add.reduceat(weight[:, None] * pos, starts) / np.add.reduceat(weight, starts)[:, None]
    np.add.at(moments, (owner, slot[numbers]), ((pos - centres[owner]) ** 2).sum(1))
    return np.hstack([counts, moments])


def atom_rows(store: StructureStore, indices: np.ndarray) -> np.ndarray:
    """Rows of the per-atom columns of some structures, concatenated."""
    return ragged_rows(store.column("ptr"), indices)[0]


def present(values: np.ndarray) -> np.ndarray:
    """Mask of values without NaN in any component."""
    return np.isfinite(values.reshape(len(values), -1)).all(axis=1)
