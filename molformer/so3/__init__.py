"""The rotation group: component order, harmonics, Wigner matrices, edge frames, couplings. No weights, no graphs."""

from molformer.so3.components import MAX_LMAX, degree_of_component, degree_slice, frame_order, lmax_of, num_components
from molformer.so3.coupling import kernel_to_frame, wigner_3j
from molformer.so3.frames import edge_wigner
from molformer.so3.harmonics import spherical_harmonics
from molformer.so3.irreps import from_irreps, irreps, to_irreps
from molformer.so3.wigner import random_rotation, wigner_blocks, wigner_matrix
