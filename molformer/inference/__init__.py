"""Predictions from trained models.

The names are imported when they are first used: training calibrates a model without RDKit, which a predictor needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molformer.inference.prediction import Prediction, Predictions, Value
    from molformer.inference.predictor import Predictor

__all__ = ["Prediction", "Predictions", "Predictor", "Value"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'molformer.inference' has no attribute '{name}'")
    home = "predictor" if name == "Predictor" else "prediction"
    return getattr(import_module(f"molformer.inference.{home}"), name)
