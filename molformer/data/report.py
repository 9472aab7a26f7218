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
    """Log how many rows were dropped, and where the list of them is, and how many have no value.

    Args:
        store: as it was imported.
        targets: rows without a value or bound of any of these are counted.
        folder: of a run, into which the list is copied; None to leave it beside the store.
    """
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

    Args:
        store: nothing is logged of one with given geometries, of which a molecule may have many.
        targets: those with one number or class a molecule are compared.
        folder: in which `duplicates.csv` lists the rows; None for no list.
    """
    _, place, counts = np.unique(store.groups, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero((counts > 1)[place])
    if not len(repeated) or "given" in store.manifest["geometries"]:
        return
    found = f"{len(repeated)} rows are of {np.sum(counts > 1)} molecules that occur more than once (stereoisomers, "
    found += "tautomers and salts count as one); each molecule is in one part of the split"
    compared = [target for target in targets if not target.per_node and not target.shape]
    columns = {name: np.array(store.column(name)) for name in store.labels if not store.labels[name].per_node}
    for target in compared:
        values = columns[target.name]
        there = repeated[np.isfinite(values[repeated])]
        low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
        np.minimum.at(low, place[there], values[there])
        np.maximum.at(high, place[there], values[there])
        if differ := int((high > low).sum()):
            by = "" if target.is_class else f", by up to {(high - low).max():.3g} {target.unit}".rstrip()
            found += f"; values of {target.name} differ in {differ}{by}"
    if folder is not None:
        found += f"; see {folder / 'duplicates.csv'}"
        texts = [label_texts(target, columns[target.name], columns) for target in compared]
        with open(folder / "duplicates.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["molecule", "name", "smiles", *(target.name for target in compared)])
            for row in repeated[np.argsort(place[repeated], kind="stable")].tolist():
                about = (plain_field(text) for text in (store[row].name, store[row].smiles))
                writer.writerow([place[row], *about, *(column[row] for column in texts)])
    logger.warning("%s", found)


def label_texts(label: Label, values: np.ndarray, bounds: Mapping[str, np.ndarray]) -> list[str]:
    """Values of a label as in a table: numbers, names of classes, bounds such as `>5`, and empty where missing.

    Args:
        label: with one number or class a structure.
        values: (B,), NaN where missing.
        bounds: (B,) by name, see `targets.bounds_of`; other names are ignored.

    Example:
        >>> label_texts(Label("y", "", "intensive"), np.array([0.5, np.nan]), {"y>": np.array([np.nan, 4])})
        ['0.5', '>4']
    """
    none = np.full(len(values), np.nan)
    choices = [("", values), *((name[-1], bounds.get(name, none)) for name in bounds_of(label.name))]
    texts = []
    for row in range(len(values)):
        sign, value = next(((sign, each[row]) for sign, each in choices if np.isfinite(each[row])), ("", np.nan))
        number = "" if np.isnan(value) else f"{sign}{value:.10g}"
        texts.append(label.classes[int(value)] if label.classes and number else number)
    return texts
