"""Predictions from trained models."""

from molformer.inference.prediction import Prediction, Predictions, Value
from molformer.inference.predictor import Predictor
