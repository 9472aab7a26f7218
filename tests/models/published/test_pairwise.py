"""The kernel of the published network, against Σ_J φ_J Σ_m Y_Jm Q_Jm written out."""

import itertools
from math import sqrt

import pytest
import torch

from molformer.models.published.block import NormNonlinearity, by_row
from molformer.models.published.pairwise import PairwiseConvolution, frame_rows
from molformer.so3 import frame_order, kernel_to_frame, num_components, spherical_harmonics, wigner_3j
from molformer.so3.components import degree_slice
from tests.helpers import embedded_edges, moved, random_graph, rotation_and_matrix

IN_LMAX, LMAX, IN, OUT, FEATURES, RADIAL = 2, 3, 3, [2, 2, 2, 4], 16, 5


def materialised(kernel, features, directions, x):
    """Messages (E, 2l+1, D_l) of each degree from features (E, M, C)."""
    harmonics = spherical_harmonics(directions, 2 * LMAX)
    sums = [0.0] * len(OUT)
    for k, out in itertools.product(range(IN_LMAX + 1), range(LMAX + 1)):
        weight = kernel.weights[f"{k},{out}"].unflatten(1, (RADIAL, IN))
        if kernel.group == "E(3)":  # the b are absent
            whole = weight.new_zeros(1 + 2 * min(k, out), *weight.shape[1:])
            whole[0], whole[1::2] = weight[0], weight[1:]
            weight = whole
        weight = weight * torch.tensor([1.0] + [sqrt(2)] * (len(weight) - 1))[:, None, None, None]
        phi = torch.einsum("nj,nrio->jrio", torch.as_tensor(kernel_to_frame(out, k)), weight)
        h = kernel.radial[f"{k},{out}"](features)
        for index, degree in enumerate(range(abs(out - k), out + k + 1)):
            coupling = torch.as_tensor(wigner_3j(out, k, degree))
            y = harmonics[:, degree_slice(degree)]
            message = torch.einsum("er,rio,em,abm,ebi->eao", h, phi[index], y, coupling, x[:, degree_slice(k)])
            sums[out] = sums[out] + message
    return sums


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_it_is_the_papers_kernel(group):
    graph = random_graph((5,))
    edges = embedded_edges(graph, LMAX, FEATURES)
    kernel = moved(PairwiseConvolution(IN_LMAX, IN, OUT, FEATURES, group, RADIAL))
    directions = torch.nn.functional.normalize(graph.pos[edges.dst] - graph.pos[edges.src], dim=-1)
    x = torch.randn(len(directions), num_components(LMAX), IN)
    sent = kernel(by_row(edges.rotate_in(x), frame_rows(LMAX)), edges.features)
    rows, order = frame_rows(LMAX), frame_order(LMAX)
    for degree, expected in enumerate(materialised(kernel, edges.features, directions, x)):
        framed = torch.zeros(len(x), num_components(LMAX), OUT[degree])
        for place, row in enumerate(rows):
            if row[0] == degree:
                framed[:, place] = sent[row]
        assert torch.allclose(edges.rotate_out(framed)[:, degree_slice(degree)], expected, atol=1e-11)
    assert [degree**2 + degree + m for degree, m in rows] == list(order)


def test_a_norm_nonlinearity_changes_lengths_alone():
    norm = moved(NormNonlinearity(2, 8)).double()
    x = torch.randn(4, 9, 8, dtype=torch.float64)
    _, matrix = rotation_and_matrix(2)
    y = norm(x)
    assert torch.allclose(norm(matrix @ x), matrix @ y, atol=1e-12)
    length = x[:, 1:4].norm(dim=1)
    new = torch.nn.functional.layer_norm(length, (8,), norm.gain[1], norm.bias[1]).relu()
    assert torch.allclose(y[:, 1:4], x[:, 1:4] / length[:, None] * new[:, None])


def test_a_norm_nonlinearity_has_a_derivative_at_zero():
    x = torch.zeros(2, 9, 8, requires_grad=True)
    moved(NormNonlinearity(2, 8))(x).sum().backward()
    assert x.grad.isfinite().all()
