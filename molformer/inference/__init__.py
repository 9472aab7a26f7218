"""Predictions from trained models."""

from molformer.inference.predictor import Prediction, Predictor, Value
