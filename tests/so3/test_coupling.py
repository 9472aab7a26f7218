import itertools
from math import sqrt

import numpy as np
import pytest
import torch
from e3nn import o3

from molformer.so3 import edge_wigner, kernel_to_frame, spherical_harmonics, wigner_3j
from molformer.so3.components import degree_slice, frame_order, num_components
from tests.helpers import rotation_and_matrix

PAIRS = list(itertools.product(range(5), repeat=2))


@pytest.mark.parametrize(("l1", "l2"), PAIRS)
def test_3j_is_invariant_normalised_and_e3nns_up_to_sign(l1, l2):
    _, matrix = rotation_and_matrix(6)
    blocks = [matrix[degree_slice(degree), degree_slice(degree)].numpy() for degree in range(7)]
    for l3 in range(abs(l1 - l2), min(l1 + l2, 6) + 1):
        symbol = wigner_3j(l1, l2, l3)
        assert np.isclose(np.linalg.norm(symbol), 1)
        turned = np.einsum("abc,ia,jb,kc->ijk", symbol, blocks[l1], blocks[l2], blocks[l3])
        assert np.allclose(turned, symbol, atol=1e-12)
        reference = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
        assert min(np.abs(symbol - reference).max(), np.abs(symbol + reference).max()) < 1e-12


def test_3j_vanishes_where_the_degrees_do_not_couple():
    assert not wigner_3j(1, 1, 3).any()


@pytest.mark.parametrize(("out_degree", "in_degree"), PAIRS)
def test_change_of_basis_is_orthogonal(out_degree, in_degree):
    table = kernel_to_frame(out_degree, in_degree)
    assert table.shape == (1 + 2 * min(out_degree, in_degree),) * 2
    assert np.allclose(table @ table.T, np.eye(len(table)), atol=1e-12)


@pytest.mark.parametrize(("out_degree", "in_degree"), PAIRS)
def test_even_sums_of_degrees_give_the_a_and_odd_ones_the_b(out_degree, in_degree):
    table = kernel_to_frame(out_degree, in_degree)
    for column, degree in enumerate(range(abs(out_degree - in_degree), out_degree + in_degree + 1)):
        is_b = np.array([row > 0 and row % 2 == 0 for row in range(len(table))])
        absent = table[~is_b, column] if (degree + out_degree + in_degree) % 2 else table[is_b, column]
        assert np.allclose(absent, 0, atol=1e-12)


@pytest.mark.parametrize(("out_degree", "in_degree"), PAIRS)
def test_frame_form_equals_the_kernel_of_3j_symbols_and_harmonics(out_degree, in_degree):
    """W = Σ_J φ_J Σ_m Y_Jm Q_Jm, written out, equals D_outᵀ (a, b blocks) D_in for random directions."""
    generator = torch.Generator().manual_seed(out_degree * 5 + in_degree)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64, generator=generator), dim=-1)
    degrees = range(abs(out_degree - in_degree), out_degree + in_degree + 1)
    phi = torch.randn(len(degrees), dtype=torch.float64, generator=generator)
    harmonics = spherical_harmonics(directions, out_degree + in_degree)
    kernel = sum(
        phi[index]
        * torch.einsum(
            "em,oim->eoi", harmonics[:, degree_slice(J)], torch.as_tensor(wigner_3j(out_degree, in_degree, J))
        )
        for index, J in enumerate(degrees)
    )
    numbers = (torch.as_tensor(kernel_to_frame(out_degree, in_degree)) @ phi).tolist()
    block = torch.zeros(2 * out_degree + 1, 2 * in_degree + 1, dtype=torch.float64)
    block[out_degree, in_degree] = numbers[0]
    for m in range(1, min(out_degree, in_degree) + 1):
        a, b = numbers[2 * m - 1] / sqrt(2), numbers[2 * m] / sqrt(2)
        block[out_degree + m, in_degree + m] = block[out_degree - m, in_degree - m] = a
        block[out_degree - m, in_degree + m] = b
        block[out_degree + m, in_degree - m] = -b
    lmax = max(out_degree, in_degree)
    frames = edge_wigner(directions, lmax)
    natural = torch.empty_like(frames)
    natural[:, list(frame_order(lmax))] = frames  # rows back from the order by |m|
    assert natural.shape[1] == num_components(lmax)
    turn_out = natural[:, degree_slice(out_degree), degree_slice(out_degree)]
    turn_in = natural[:, degree_slice(in_degree), degree_slice(in_degree)]
    in_frame = turn_out.transpose(1, 2) @ block @ turn_in
    assert (in_frame - kernel).abs().max() < 1e-12
