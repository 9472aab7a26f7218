"""The folder of a saved predictor: a model folder, or one for each member of an ensemble."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from molformer.data.drafts import writing
from molformer.errors import ModelError
from molformer.models.property import PropertyModel
from molformer.uncertainty.calibration import Calibration

CARD = "README.md"


def save_pretrained(
    folder: str | os.PathLike[str],
    models: Sequence[PropertyModel],
    calibrations: Sequence[Calibration | None],
    sources: Sequence[Path] = (),
) -> None:
    """Write the folder; see `Predictor.save_pretrained`."""
    folder = Path(folder)
    for number, (model, calibration) in enumerate(zip(models, calibrations, strict=True), start=1):
        inside = folder if len(models) == 1 else folder / f"member-{number}"
        model.save(inside)
        if calibration is not None:
            calibration.save(inside)
        card = sources[number - 1] / CARD if sources else None
        if card is not None and card.is_file() and card.resolve() != (inside / CARD).resolve():
            with writing(inside / CARD, ModelError):
                shutil.copyfile(card, inside / CARD)
