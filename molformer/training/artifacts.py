"""Artifacts of a run or an evaluation: tables of predictions, and plots.

Files are written atomically.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molformer.data.drafts import plain_field, writing
from molformer.data.report import label_texts
from molformer.data.store import StructureStore
from molformer.errors import TrainingError
from molformer.targets import Label
from molformer.training.monitor import read_metrics
from molformer.training.target_errors import Predicted, TargetErrors


def write_predictions(
    folder: Path, predicted: Predicted, targets: Sequence[Label], store: StructureStore, indices: np.ndarray
) -> None:
    """Write `test_predictions.csv`, a row for each structure, and `test_predictions.npz` for per-atom targets.

    Raises:
        TrainingError: the folder cannot be written.
    """
    table = [target for target in targets if not target.per_node]
    atoms = [target for target in targets if target.per_node]
    with writing(folder, TrainingError):
        _write_table(folder / "test_predictions.csv", predicted, table, store, indices)
        if atoms:
            arrays = {"index": indices, "ptr": np.concatenate([[0], np.cumsum(predicted.sizes)])}
            for target in atoms:
                prediction, label = predicted.values[target.name]
                arrays |= {target.name: label, f"{target.name} predicted": prediction}
            part = folder / ".test_predictions.part.npz"
            np.savez_compressed(part, allow_pickle=False, **arrays)
            os.replace(part, folder / "test_predictions.npz")


def _write_table(
    path: Path, predicted: Predicted, targets: Sequence[Label], store: StructureStore, indices: np.ndarray
) -> None:
    columns = ["index", "name", "smiles"]
    cells: list[list[str]] = []
    for target in targets:
        prediction, label = predicted.values[target.name]
        unit = f" [{target.unit}]" if target.unit else ""
        if target.classes:
            columns += [target.name, f"{target.name} predicted", *(f"p({name})" for name in target.classes)]
            cells += [label_texts(target, values, {}) for values in (label, prediction.argmax(-1))]
            cells += [[f"{value:.10g}" for value in values] for values in prediction.T]
            continue
        for place, component in enumerate(target.target_kind.components or [""]):
            axis = f"_{component}" if component else ""
            columns += [f"{target.name}{axis}{unit}", f"{target.name}{axis} predicted{unit}"]
            known, guess = (values.reshape(len(label), -1)[:, place] for values in (label, prediction))
            cells += [label_texts(target, known, predicted.bounds), label_texts(target, guess, {})]
    part = path.with_name(f".{path.name}.part")
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for place, index in enumerate(indices.tolist()):
            about = [plain_field(text) for text in (store[index].name, store[index].smiles)]
            writer.writerow([index, *about, *(column[place] for column in cells)])
    os.replace(part, path)


def write_plots(
    folder: Path, predicted: Predicted, errors: Sequence[TargetErrors], metrics: Path | None = None
) -> list[Path]:
    """Write `plots/parity_TARGET.png` and `plots/learning_curve.png` (from `metrics.csv`); classes have no parity.

    Returns:
        The written files.
    """
    from molformer.plots import learning_curve, parity

    figures = {}
    for row in errors:
        target = row.target
        if not target.is_class and row.count:
            prediction, label = predicted.values[target.name]
            figures[f"parity_{_file_name(target.name)}"] = parity(
                label, prediction, target.name, target.unit, row.error
            )
    if metrics is not None and metrics.is_file():
        figures["learning_curve"] = learning_curve(read_metrics(metrics))
    paths = []
    with writing(folder, TrainingError):
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            paths.append(folder / "plots" / f"{name}.png")
            figure.savefig(paths[-1])
    return paths


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
