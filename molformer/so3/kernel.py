"""The kernel of the SE(3)-Transformer in the edge's frame.

In the frame where the edge is the polar axis only Y_{J0} is nonzero in the kernel
    W^{lk}(x) = Σ_J φ_J Σ_m Y_Jm(x) Q_Jm,
so it couples output m with input ±m alone, by coefficients a_0, a_m, b_m (Passaro & Zitnick 2023, arXiv 2302.03655):
    [y_+m; y_-m] = [[a_m, -b_m], [b_m, a_m]] [x_+m; x_-m].
"""

from functools import cache
from math import sqrt

import numpy as np

from molformer.so3.coupling import wigner_3j


@cache
def kernel_to_frame(out_degree: int, in_degree: int) -> np.ndarray:
    """Orthogonal matrix from the coefficients φ_J of a kernel to those in the edge's frame.

    Args:
        out_degree: l, degree of the output.
        in_degree: k, degree of the input.

    Returns:
        (1 + 2·min(l,k), same): rows a_0, √2 a_1, √2 b_1, √2 a_2, √2 b_2, …; columns J = |l-k| … l+k. J + l + k even
        gives the a's, odd gives the b's.
    """
    size = 1 + 2 * min(out_degree, in_degree)
    table = np.zeros((size, size))
    for column, degree in enumerate(range(abs(out_degree - in_degree), out_degree + in_degree + 1)):
        kernel = sqrt(2 * degree + 1) * wigner_3j(out_degree, in_degree, degree)[:, :, degree]  # Y_J0 on the axis
        table[0, column] = kernel[out_degree, in_degree]
        for m in range(1, min(out_degree, in_degree) + 1):
            table[2 * m - 1, column] = sqrt(2) * kernel[out_degree + m, in_degree + m]
            table[2 * m, column] = sqrt(2) * kernel[out_degree - m, in_degree + m]
    return table
