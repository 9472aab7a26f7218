"""Figures of predictions and models (matplotlib figures, not shown), and interactive views of molecules."""

from molformer.plots.inside import attention_matrix, block_matrix
from molformer.plots.molecule import molecule
from molformer.plots.regression import intervals, learning_curve, parity
from molformer.plots.space import feature_map, plane
from molformer.plots.view import MoleculeView, view
