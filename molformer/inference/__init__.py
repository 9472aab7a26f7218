"""Predictions from trained models.

The names are imported when they are first used: training finds models by this package and does without RDKit.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molformer.inference.prediction import Prediction, Value
    from molformer.inference.predictor import Predictor
    from molformer.inference.table import Predictions

__all__ = ["Prediction", "Predictions", "Predictor", "Value"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'molformer.inference' has no attribute '{name}'")
    home = {"Predictor": "predictor", "Predictions": "table"}.get(name, "prediction")
    return getattr(import_module(f"molformer.inference.{home}"), name)
