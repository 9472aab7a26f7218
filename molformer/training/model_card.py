"""Result of a run, and model card, the README.md of a model folder: architecture, data, errors and training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from molformer.data.datamodule import StoreDataModule
from molformer.elements import SYMBOLS
from molformer.models.property import PropertyModel
from molformer.training.bootstrap import Interval
from molformer.training.classical import Classical
from molformer.training.config import TrainingConfig
from molformer.training.run_folder import started_by
from molformer.training.target_errors import TargetErrors
from molformer.uncertainty.conformal import Coverage, coverage_table
from molformer.version import __version__


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run."""

    folder: Path  #: the run folder
    model: Path  #: the model folder inside it
    errors: list[TargetErrors]  #: of each target on the test part
    epochs: int  #: including resumed parts; of an ensemble, the sum, as of the seconds
    seconds: float  #: of training
    machine: str = ""  #: hardware
    classical: list[Classical] = field(default_factory=list)  #: of classical methods on the split


def write_model_card(
    model: PropertyModel,
    data: StoreDataModule,
    training: TrainingConfig,
    result: TrainingResult,
    covered: Mapping[str, Coverage],
    equivariance: Mapping[str, Mapping[str, float]],
) -> None:
    """Write the model card into a model's folder, with the coverage of intervals on the test part by target name.

    The equivariance error of each target relative to its scale is by floating-point type; empty for an ensemble, of
    which each member has a card of its own.
    """
    text = [
        *_heading(model, result.model, training.ensemble),
        *_data(model, data, training),
        *_errors(result.errors, result.classical),
        *_intervals(covered),
        *_equivariance(model, equivariance),
        *_training(training, result),
    ]
    (result.model / "README.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _heading(model: PropertyModel, folder: Path, members: int) -> list[str]:
    size = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    return [
        "---",
        "library_name: molformer",
        "tags: [chemistry, equivariance, se3-transformer]",
        "---",
        f"# SE(3)-Transformer for {', '.join(target.name for target in model.targets)}",
        "",
        f"Encoder: lmax {config.lmax}, {config.channels} channels, {config.num_layers} layers, "
        f"{config.num_heads} heads, cutoff {config.cutoff} Å, {config.convolution} kernel, {config.group}; "
        f"{size:,} parameters{f'; an ensemble of {members} such models' if members > 1 else ''}.",
        "",
        "```python",
        "import molformer",
        "",
        f'molformer.load("{folder.as_posix()}").predict("CCO")',
        "```",
        "",
    ]


def _data(model: PropertyModel, data: StoreDataModule, training: TrainingConfig) -> list[str]:
    split, groups = data.split, len(np.unique(data.store.groups))
    return [
        "## Data",
        "",
        f"{data.store.manifest['source'] or data.store.path.name}; "
        f"sha256 of the content {data.store.manifest['sha256']}.",
        f"Structures for training, validation, test: {len(split.train)}, {len(split.val)}, {len(split.test)}; "
        f"split '{training.split_by}', seed {training.seed}. Each of the {groups} groups is in one part.",
        f"Elements: {' '.join(SYMBOLS[number] for number in model.domain.elements)}. "
        f"Largest structure: {model.domain.max_atoms} atoms. "
        f"Geometries: {', '.join(model.domain.geometries)}.",
        "",
    ]


def _errors(errors: Sequence[TargetErrors], classical: Sequence[Classical]) -> list[str]:
    lines = [
        "## Errors on the test part",
        "",
        "| target | unit | kind | n | error | 95 % interval | RMSE | 95 % interval | R² | other | composition | mean |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    if not errors:
        return [lines[0], "", "There was no test part: test errors are unknown.", ""]
    others = ((row, f" ({method.method})") for method in classical for row in method.errors)
    for row, method in (*((row, "") for row in errors), *others):
        other = ""
        if not math.isnan(row.per_atom):
            other = f"{row.per_atom:.4g} an atom"
        elif not math.isnan(row.roc_auc):
            other = f"ROC-AUC {row.roc_auc:.3f} ({_interval(row.roc_auc_interval)})"
        elif not math.isnan(row.iou):
            other = f"mean IoU {row.iou:.3f}"
        cells = [
            row.target.name + method,
            row.target.unit,
            row.target.kind,
            str(row.count),
            _number(row.error),
            _interval(row.interval),
            _number(row.rmse),
            _interval(row.rmse_interval),
            _number(row.r2),
            other,
            _number(row.error_composition),
            _number(row.error_mean),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Error: mean absolute error over components; of a class, the fraction of wrong predictions. "
        "Intervals: bootstrap over structures.",
        "Composition: least squares on the numbers of atoms by element. Mean: a constant, or the most frequent class.",
        "",
    ]


def _intervals(covered: Mapping[str, Coverage]) -> list[str]:
    if not covered:
        return []
    first, (headings, rows) = next(iter(covered.values())), coverage_table(covered)
    return [
        "## Intervals and domain of predictions",
        "",
        f"Split-conformal intervals from the validation part with a nominal coverage of {first.level:.0%}: their "
        "empirical coverage on the test part, %, and mean half-width, by geometry method, by thirds of the number of "
        "atoms, and by thirds of the half-width:",
        "",
        f"| {' | '.join(headings)} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "For vectors, tensors and per-atom targets, intervals are those of single components.",
        f"By expected error, {first.far:.1%} of the test part is out of domain; *error outside* is their mean error "
        "relative to that of the others.",
        "",
    ]


def _equivariance(model: PropertyModel, measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not measured:
        return []
    formats = list(measured)
    lines = [
        "## Equivariance of these weights",
        "",
        "Largest equivariance error over random rotations and translations of test molecules, relative to the "
        "standard deviation of the target:",
        "",
        f"| target | {' | '.join(formats)} |",
        f"|---|{'---|' * len(formats)}",
    ]
    for target in model.targets:
        lines.append(f"| {target.name} | {' | '.join(f'{measured[name][target.name]:.1e}' for name in formats)} |")
    return [*lines, ""]


def _training(training: TrainingConfig, result: TrainingResult) -> list[str]:
    return [
        "## Training",
        "",
        f"{result.epochs} epochs in {result.seconds:.0f} s on {result.machine}, {training.devices * training.nodes} "
        f"process(es); molformer {__version__}. All settings are in `config.yaml` of the run folder.",
        "",
        "```sh",
        started_by(result.folder),
        "```",
    ]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _interval(interval: Interval) -> str:
    return "" if math.isnan(interval[0]) else f"{interval[0]:.4g} to {interval[1]:.4g}"
