"""SE(3)-Transformers for molecules and point clouds.

>>> import molformer
>>> molformer.load("runs/quickstart").predict("CCO")  # doctest: +SKIP

Names are imported when they are first used, so that `import molformer` is immediate.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molformer.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from molformer.data.store import StructureStore
    from molformer.inference.pipeline import pipeline
    from molformer.inference.prediction import Prediction, Value
    from molformer.inference.predictor import Predictor
    from molformer.inference.table import Predictions
    from molformer.models.config import SE3TransformerConfig
    from molformer.models.encoder import SE3Transformer
    from molformer.models.property import PropertyModel
    from molformer.structure import Structure
    from molformer.targets import Label

_HOMES = {
    "Label": "molformer.targets",
    "Prediction": "molformer.inference.prediction",
    "Predictions": "molformer.inference.table",
    "Predictor": "molformer.inference.predictor",
    "PropertyModel": "molformer.models.property",
    "SE3Transformer": "molformer.models.encoder",
    "SE3TransformerConfig": "molformer.models.config",
    "Structure": "molformer.structure",
    "StructureStore": "molformer.data.store",
    "Value": "molformer.inference.prediction",
    "pipeline": "molformer.inference.pipeline",
}

__all__ = [
    "Label",
    "Prediction",
    "Predictions",
    "Predictor",
    "PropertyModel",
    "SE3Transformer",
    "SE3TransformerConfig",
    "Structure",
    "StructureStore",
    "Value",
    "__version__",
    "load",
    "pipeline",
]


def load(
    source: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]", device: str = "auto", **options: Any
) -> "Predictor":
    """A predictor from a shipped name, a run or model folder or a hub id; several are an ensemble.

    Args:
        source: where the model is.
        device: `auto` takes a GPU if there is one; else `cpu` or `cuda`.
        options: further ones of `Predictor.load`.

    Raises:
        ModelError: there is no model, or it is damaged.
        ConfigError: there is no such device.
    """
    from molformer.inference.predictor import Predictor

    return Predictor.load(source, device, **options)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'molformer' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
