"""What became of the rows of a table: those that were dropped, and those that repeat a molecule."""

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from molformer.data.drafts import plain_field
from molformer.data.store import StructureStore
from molformer.targets import Label, bounds_of

logger = logging.getLogger(__name__)


def record_path(store: Path) -> Path:
    """The CSV file beside a store that lists the rows which are not in it; there is none if all are."""
    return store.with_name(store.name.removesuffix(".safetensors") + ".rejected.csv")


def report_dropped(store: StructureStore, targets: Sequence[Label] = (), folder: Path | None = None) -> None:
    """Log how many rows were dropped, and where the list of them is, and how many have no value of any target."""
    record = record_path(store.path)
    if record.is_file():
        with open(record, encoding="utf-8", newline="") as file:
            count = sum(1 for _ in csv.reader(file)) - 1
        record = shutil.copyfile(record, folder / "dropped.csv") if folder else record
        total = count + len(store)
        logger.warning("%d of %d rows were dropped; each is listed with the reason in %s", count, total, record)
    names = {name for target in targets for name in (target.name, *bounds_of(target.name)) if name in store.labels}
    if names and not any(target.per_node or target.shape for target in targets):
        empty = np.all([np.isnan(store.column(name)) for name in names], axis=0).sum()
        if empty:
            logger.warning("%d rows have no value of %s", empty, " or ".join(target.name for target in targets))


def report_duplicates(store: StructureStore, targets: Sequence[Label], folder: Path | None = None) -> None:
    """Log how many rows repeat a molecule, see `conformers.group_of`, and how far their values differ.

    Of targets, those with one number or class a molecule are compared; `duplicates.csv` of the folder, if any, lists
    the rows. Nothing is logged of given geometries, of which a molecule may have many.
    """
    _, place, counts = np.unique(store.groups, return_inverse=True, return_counts=True)
    rows = np.flatnonzero((counts > 1)[place])
    rows = rows[np.argsort(place[rows], kind="stable")]
    if not len(rows) or "given" in store.manifest["geometries"]:
        return
    targets = [target for target in targets if not target.per_node and not target.shape]
    columns = {name: store.column(name)[rows] for name, label in store.labels.items() if not label.per_node}
    found = f"{len(rows)} rows are of {np.sum(counts > 1)} molecules that occur more than once (stereoisomers, "
    found += "tautomers and salts count as one); each molecule is in one part of the split"
    starts = np.flatnonzero(np.diff(place[rows], prepend=-1))
    for target in targets:
        values = columns[target.name]
        low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
        if differ := int((high > low).sum()):
            by = "" if target.is_class else f", by up to {np.nanmax(high - low):.3g} {target.unit}".rstrip()
            found += f"; values of {target.name} differ in {differ}{by}"
    if folder is not None:
        found += f"; see {folder / 'duplicates.csv'}"
        texts = [label_texts(target, columns[target.name], columns) for target in targets]
        with open(folder / "duplicates.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["molecule", "name", "smiles", *(target.name for target in targets)])
            for row, *cells in zip(rows.tolist(), *texts, strict=True):
                about = (plain_field(text) for text in (store[row].name, store[row].smiles))
                writer.writerow([place[row], *about, *cells])
    logger.warning("%s", found)


def label_texts(label: Label, values: np.ndarray, bounds: Mapping[str, np.ndarray]) -> list[str]:
    """Values (B,) of a label as in a table: numbers, names of classes, bounds (B,) such as `>5`; empty where missing.

    Example:
        >>> label_texts(Label("y", "", "intensive"), np.array([0.5, np.nan]), {"y>": np.array([np.nan, 4])})
        ['0.5', '>4']
    """
    texts = np.array(["" if np.isnan(value) else f"{value:.10g}" for value in values], dtype=object)
    if label.classes:
        return [label.classes[int(text)] if text else "" for text in texts]
    for name in bounds_of(label.name):
        there = np.isfinite(bounds.get(name, np.full(len(values), np.nan)))
        texts[there] = [f"{name[-1]}{value:.10g}" for value in bounds[name][there]] if there.any() else ""
    return texts.tolist()
