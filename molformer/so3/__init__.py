"""The rotation group: component order, harmonics, Wigner matrices, edge frames, couplings. No weights, no graphs."""

from molformer.so3.components import (
    MAX_LMAX,
    degree_of_component,
    degree_slice,
    frame_order,
    from_irreps,
    irreps,
    lmax_of,
    num_components,
    to_irreps,
)
from molformer.so3.coupling import kernel_to_frame, wigner_3j
from molformer.so3.frames import dense_edge_wigner, edge_wigner, edge_wigner_blocks
from molformer.so3.harmonics import spherical_harmonics
from molformer.so3.rotation import DENSE_LMAX, rotate_from_edges, rotate_to_edges
from molformer.so3.wigner import random_rotation, wigner_blocks, wigner_matrix
