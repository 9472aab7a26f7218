"""Uncertainty of predictions: conformal intervals, their calibration, and the applicability domain."""
