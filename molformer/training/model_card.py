"""The README.md of a model folder: what the model is, what it was trained on and how far it errs."""

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.points import PointCloudDataModule
from molformer.elements import SYMBOLS
from molformer.models.property import PropertyModel
from molformer.training.config import TrainingConfig
from molformer.training.evaluation import TargetErrors
from molformer.version import __version__


def write_model_card(
    model: PropertyModel,
    data: MoleculeDataModule | PointCloudDataModule,
    training: TrainingConfig,
    errors: Sequence[TargetErrors],
    epochs: int,
    seconds: float,
    folder: Path,
) -> None:
    """Write the model card of a trained model into its folder."""
    split = data.split
    groups = len(np.unique(data.store.groups))
    size = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---",
        "library_name: molformer",
        "tags: [chemistry, equivariance, se3-transformer]",
        "---",
        f"# SE(3)-Transformer for {', '.join(target.name for target in model.targets)}",
        "",
        f"Encoder: lmax {model.config.lmax}, {model.config.channels} channels, {model.config.num_layers} layers, "
        f"{model.config.num_heads} heads, cutoff {model.config.cutoff} Å, {model.config.convolution} kernel, "
        f"{model.config.group}; {size:,} parameters.",
        "",
        "```python",
        "import molformer",
        f'molformer.load("{folder}").predict("CCO")',
        "```",
        "",
        "## Data",
        "",
        f"{data.store.manifest['source'] or data.store.path.name}; "
        f"sha256 of the content {data.store.manifest['sha256']}.",
        f"Structures for training, validation, test: {len(split.train)}, {len(split.val)}, {len(split.test)}; "
        f"split '{training.split_by}', seed {training.seed}. Structures of one of the {groups} groups stay together.",
        f"Elements: {' '.join(SYMBOLS[number] for number in model.domain.elements)}. "
        f"Largest structure: {model.domain.max_atoms} atoms. "
        f"Geometries: {', '.join(model.domain.geometries)}.",
        "",
        "## Errors on the test part",
        "",
        "| target | unit | kind | n | error | RMSE | error of composition | error of mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in errors:
        lines.append(
            f"| {row.target.name} | {row.target.unit} | {row.target.kind} | {row.count} | {row.error:.4g} | "
            f"{row.rmse:.4g} | {row.error_composition:.4g} | {row.error_mean:.4g} |"
        )
    device = torch.cuda.get_device_name() if next(model.parameters()).is_cuda else platform.machine() + " CPU"
    lines += [
        "",
        "Error: mean absolute error; of a vector or tensor, its mean length; of a class, the share of wrong answers.",
        "Composition: least squares on the number of atoms of each element. Mean: one value, or the commonest class.",
        "",
        "## Training",
        "",
        f"{epochs} epochs in {seconds:.0f} s on {device} with {torch.get_num_threads()} threads; "
        f"molformer {__version__}, torch {torch.__version__}. "
        "Every setting stands in `config.yaml` of the run folder.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
