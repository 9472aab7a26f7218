import itertools
from math import isqrt, sqrt

import pytest
import torch

from molformer.nn import FullConvolution, SeparableConvolution
from molformer.so3 import (
    edge_wigner,
    frame_order,
    kernel_to_frame,
    num_components,
    spherical_harmonics,
    wigner_3j,
)
from molformer.so3.components import degree_slice
from tests.helpers import embedded_edges, moved, random_graph

LMAX, IN, OUT, FEATURES = 3, 3, 2, 16


def materialised(kernel, h, directions):
    """The paper's kernel of every edge, Σ_J φ_J Σ_m Y_Jm Q_Jm, from the weights of a convolution: (E, M·OUT, M·IN)."""
    weights = {}  # numbers in the frame of each pair of degrees, (E, IN, OUT) for a_0, √2 a_1, √2 b_1, …
    for m in range(LMAX + 1):
        size = LMAX + 1 - m
        parts = [kernel.a[m]] + ([kernel.b[m - 1]] if m and kernel.group == "SE(3)" else [])
        for is_b, part in enumerate(parts):
            per_edge = torch.einsum("er,rio->eio", h, part).unflatten(1, (size, IN)).unflatten(3, (size, OUT))
            for k in range(m, LMAX + 1):
                for out in range(m, LMAX + 1):
                    scale = sqrt(2) if m else 1.0
                    weights[out, k, m, is_b] = scale * per_edge[:, k - m, :, out - m]
    harmonics = spherical_harmonics(directions, 2 * LMAX)
    size = num_components(LMAX)
    whole = torch.zeros(len(h), size, OUT, size, IN, dtype=h.dtype)
    zero = torch.zeros(len(h), IN, OUT, dtype=h.dtype)
    for out, k in itertools.product(range(LMAX + 1), repeat=2):
        numbers = [weights[out, k, 0, 0]]
        for m in range(1, min(out, k) + 1):
            numbers += [weights[out, k, m, 0], weights.get((out, k, m, 1), zero)]
        phi = torch.einsum("nj,neio->jeio", torch.as_tensor(kernel_to_frame(out, k)), torch.stack(numbers))
        for index, J in enumerate(range(abs(out - k), out + k + 1)):
            coupling = torch.as_tensor(wigner_3j(out, k, J))
            angular = torch.einsum("em,abm->eab", harmonics[:, degree_slice(J)], coupling)
            whole[:, degree_slice(out), :, degree_slice(k)] += torch.einsum("eio,eab->eaobi", phi[index], angular)
    return whole.flatten(3).flatten(1, 2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_full_convolution_equals_the_materialised_kernel(group):
    graph = random_graph((5,))
    edges = embedded_edges(graph, LMAX, FEATURES)
    kernel = moved(FullConvolution(LMAX, IN, OUT, FEATURES, group, radial=4))
    vectors = graph.pos[edges.dst] - graph.pos[edges.src]
    directions = torch.nn.functional.normalize(vectors, dim=-1)
    x = torch.randn(len(vectors), num_components(LMAX), IN)
    result = edges.rotate_out(kernel(edges.rotate_in(x), edges.features))
    expected = materialised(kernel, kernel.trunk(edges.features), directions) @ x.flatten(1)[:, :, None]
    assert torch.allclose(result.flatten(1), expected[:, :, 0], atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_separable_convolution_is_a_full_one_of_scaled_inputs(group):
    """The scales are those of the edge, of degree and |m|, and of the channel; the map is that of a full kernel."""
    edges = embedded_edges(random_graph((5,)), LMAX, FEATURES)
    separable = moved(SeparableConvolution(LMAX, IN, OUT, FEATURES, group))
    full = FullConvolution(LMAX, IN, OUT, FEATURES, group, radial=1)
    full.load_state_dict({**full.state_dict(), **{k: v for k, v in separable.state_dict().items() if k[0] in "ab"}})
    x = torch.randn(len(edges.src), num_components(LMAX), IN)
    scales = separable.scale(edges.features).unflatten(1, (-1, IN))
    pairs = [(m, degree) for m in range(LMAX + 1) for degree in range(m, LMAX + 1)]
    scaled = x.clone()
    for place, component in enumerate(frame_order(LMAX)):
        degree = isqrt(component)
        scaled[:, place] *= scales[:, pairs.index((abs(component - degree**2 - degree), degree))]
    h = full.trunk(edges.features)
    assert torch.allclose(separable(x, edges.features), full(scaled, edges.features) / h[:, :, None], atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("convolution", [SeparableConvolution, FullConvolution])
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_two_outputs_are_those_of_two_kernels(convolution, group):
    edges = embedded_edges(random_graph((5,)), LMAX, FEATURES)
    both = moved(convolution(LMAX, IN, OUT, FEATURES, group, outputs=2))
    x = torch.randn(len(edges.src), num_components(LMAX), IN)
    for index, expected in enumerate(both(x, edges.features).chunk(2, dim=-1)):
        one = convolution(LMAX, IN, OUT, FEATURES, group)
        state = both.state_dict()
        for key, value in state.items():
            if key[:2] in ("a.", "b."):
                state[key] = value.chunk(2, dim=-1)[index]
        one.load_state_dict(state)
        assert torch.allclose(one(x, edges.features), expected, atol=1e-12)


@pytest.mark.parametrize("convolution", [SeparableConvolution, FullConvolution])
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_no_edges(convolution, group):
    kernel = convolution(2, IN, OUT, FEATURES, group, outputs=2)
    assert kernel(torch.zeros(0, 9, IN), torch.zeros(0, FEATURES)).shape == (0, 9, 2 * OUT)


def test_group_e3_has_no_mixing_weights():
    conv = SeparableConvolution(2, IN, OUT, FEATURES, "E(3)")
    assert len(conv.b) == 0
    assert len(conv.a) == 3


def test_a_frame_is_made_for_each_edge():
    assert edge_wigner(torch.eye(3), 2).shape == (3, 9, 9)
