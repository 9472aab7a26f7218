"""Every layer turns its output as its input is turned, in both precisions, with every parameter moved."""

import pytest
import torch

from molformer.nn import (
    DegreeLinear,
    EquivariantRMSNorm,
    FullConvolution,
    GatedFeedForward,
    SE3Attention,
    SeparableConvolution,
)
from molformer.so3 import num_components
from tests.helpers import TOLERANCE, embedded_edges, moved, parity, random_graph, rotation_and_matrix, turned

CHANNELS, FEATURES = 8, 16
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
DEGREES = pytest.mark.parametrize("lmax", [0, 1, 2, 3, 4])
CONVOLUTIONS = pytest.mark.parametrize("convolution", [SeparableConvolution, FullConvolution])


def features(nodes, lmax, dtype):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(nodes, num_components(lmax), CHANNELS, generator=generator, dtype=torch.float64).to(dtype)


NODE_LAYERS = {
    "linear": lambda lmax: DegreeLinear(lmax, CHANNELS, CHANNELS, bias=True),
    "norm": lambda lmax: EquivariantRMSNorm(lmax, CHANNELS),
    "feed_forward": lambda lmax: GatedFeedForward(lmax, CHANNELS, 12),
}


@PRECISIONS
@DEGREES
@pytest.mark.parametrize("name", NODE_LAYERS)
def test_layers_of_single_nodes(name, lmax, dtype):
    layer = moved(NODE_LAYERS[name](lmax)).to(dtype)
    _, matrix = rotation_and_matrix(lmax, dtype)
    x = features(10, lmax, dtype)
    assert (layer(matrix @ x) - matrix @ layer(x)).abs().max() < TOLERANCE[dtype]
    assert (layer(parity(lmax, dtype) * x) - parity(lmax, dtype) * layer(x)).abs().max() < TOLERANCE[dtype]


def attention(convolution, lmax, group, dtype):
    torch.manual_seed(1)
    kernel = convolution(lmax, CHANNELS, CHANNELS, FEATURES, group, outputs=2)
    return moved(SE3Attention(lmax, CHANNELS, 2, kernel)).to(dtype)


def through_kernel(convolution, lmax, group, dtype):
    torch.manual_seed(1)
    kernel = moved(convolution(lmax, CHANNELS, CHANNELS, FEATURES, group)).to(dtype)
    return lambda x, edges: edges.sum_at_dst(edges.rotate_out(kernel(edges.rotate_in(x[edges.src]), edges.features)))


@PRECISIONS
@DEGREES
@CONVOLUTIONS
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
@pytest.mark.parametrize("build", [through_kernel, attention])
def test_layers_with_edges(build, group, convolution, lmax, dtype):
    layer = build(convolution, lmax, group, dtype)
    graph = random_graph(dtype=dtype)
    rotation, matrix = rotation_and_matrix(lmax, dtype)
    x = features(len(graph.pos), lmax, dtype)
    with torch.no_grad():
        y = layer(x, embedded_edges(graph, lmax))
        y_turned = layer(matrix @ x, embedded_edges(turned(graph, rotation, shift=2.0), lmax))
        y_mirrored = layer(parity(lmax, dtype) * x, embedded_edges(turned(graph, -torch.eye(3)), lmax))
    size = y.abs().max()
    assert (y_turned - matrix @ y).abs().max() < TOLERANCE[dtype] * size
    mirror_error = (y_mirrored - parity(lmax, dtype) * y).abs().max() / size
    if group == "E(3)" or lmax == 0:
        assert mirror_error < TOLERANCE[dtype]
    else:
        assert mirror_error > 1e-2
