"""Estimates of the memory that a prediction needs.

It is approximately proportional to the number of edges. Letters: n atoms, M = (lmax+1)² components, C channels.
"""

import numpy as np
from scipy.spatial import cKDTree

from molformer.graph.periodic import count_periodic
from molformer.models.property import PropertyModel
from molformer.structure import Structure

_FEW = 32
"""Number of atoms up to which all pairs are counted."""

_TENSORS = 6
"""Number of simultaneously allocated tensors of edge features; of each layer, if there are gradients."""


def edge_bytes(model: PropertyModel) -> int:
    """Upper estimate of the peak memory of a prediction per edge, bytes."""
    config = model.config
    components = (config.lmax + 1) ** 2
    bytes_per_number = next(model.parameters()).element_size()
    frames = 3 * components**2 + 4 * config.edge_features
    features = _TENSORS * components * config.channels * (config.num_layers if model.derived else 1)
    if config.architecture == "paper":
        features += 4 * config.radial * config.channels
    return bytes_per_number * (frames + features)


def count_edges(structure: Structure, cutoff: float) -> int:
    """Upper bound of the number of edges: all pairs of a small structure, else pairs within the cutoff (Å).

    Raises:
        TooLargeError: a periodic structure has far too many images within the cutoff.
    """
    atoms = len(structure)
    if structure.cell is not None:
        return count_periodic(structure.pos, structure.cell, np.array(structure.pbc), cutoff)
    if atoms <= _FEW:
        return atoms * (atoms - 1)
    tree = cKDTree(structure.pos)
    return int(tree.count_neighbors(tree, cutoff)) - atoms
