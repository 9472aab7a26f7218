"""Saving a predictor as a folder, and putting it on the Hugging Face hub."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from molformer.data.drafts import writing
from molformer.errors import ModelError

if TYPE_CHECKING:
    from molformer.inference.predictor import Predictor

CARD = "README.md"


def save_pretrained(predictor: "Predictor", folder: str | os.PathLike[str]) -> None:
    """Write the model folder; see `Predictor.save_pretrained`."""
    folder = Path(folder)
    alone = len(predictor.models) == 1
    for number, (model, calibration) in enumerate(zip(predictor.models, predictor.calibrations, strict=True), start=1):
        inside = folder if alone else folder / f"member-{number}"
        model.save(inside)
        if calibration is not None:
            calibration.save(inside)
        card = predictor.folders[number - 1] / CARD if predictor.folders else None
        if card is not None and card.is_file() and card.resolve() != (inside / CARD).resolve():
            with writing(inside / CARD, ModelError):
                shutil.copyfile(card, inside / CARD)


def push_to_hub(predictor: "Predictor", repo_id: str, private: bool | None = None, token: str | None = None) -> str:
    """Put the model on the hub; see `Predictor.push_to_hub`."""
    from molformer.inference.hub import upload

    with TemporaryDirectory(prefix="molformer-") as folder:
        save_pretrained(predictor, folder)
        return upload(folder, repo_id, private, token, f"molformer model of {_targets(predictor)}")


def _targets(predictor: "Predictor") -> str:
    return ", ".join(target.name for target in predictor.model.targets)
