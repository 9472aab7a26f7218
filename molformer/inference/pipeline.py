"""pipeline: predictions as plain dictionaries, selected by the name of a task."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from molformer.errors import ConfigError
from molformer.inference.predictor import Predictor

TASKS = ("property-prediction",)


class PropertyPipeline:
    """Callable that maps molecules to dictionaries of plain values.

    Args:
        predictor: the model.
        options: of `Predictor.predict`, the same for all calls.
    """

    task = "property-prediction"

    def __init__(self, predictor: Predictor, options: Mapping[str, Any]) -> None:
        self.predictor = predictor
        self.options = dict(options)

    def __call__(self, inputs: Any, **options: Any) -> list[dict[str, Any]]:
        """`input`, `formula`, `status`, `message` and values of each molecule, by heading; see `Predictor.predict`."""
        return self.predictor.predict(inputs, **{**self.options, **options}).to_dicts()


def pipeline(
    task: str = TASKS[0],
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Predictor = "",
    device: str = "auto",
    **options: Any,
) -> PropertyPipeline:
    """A callable that maps molecules to plain values.

    Args:
        task: `property-prediction`.
        model: where it is, see `Predictor.load`; or a predictor.
        device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.
        options: of `Predictor.predict`, such as `targets` and `unit`.

    Raises:
        ConfigError: there is no such task.
        ModelError: there is no such model.
    """
    if task not in TASKS:
        raise ConfigError(f"there is no task '{task}'; choose one of {', '.join(TASKS)}")
    return PropertyPipeline(model if isinstance(model, Predictor) else Predictor.load(model, device), options)
