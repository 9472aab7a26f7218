"""Layers that have just been made give outputs of unit variance for inputs of unit variance."""

import pytest
import torch

from molformer.nn import DegreeLinear, FullConvolution, SeparableConvolution
from molformer.nn.inputs import EdgeInputs

CHANNELS, ROWS = 48, 400


def variance_of_components(y):
    return y.var(dim=(0, 2))


@pytest.mark.parametrize("convolution", [SeparableConvolution, FullConvolution])
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_convolutions(convolution, group):
    layer = convolution(2, CHANNELS, CHANNELS, 16, group)
    radial = torch.ones_like(layer.radial(torch.randn(ROWS, 16)))
    y = layer.convolve(torch.randn(ROWS, 9, CHANNELS), radial, layer.matrices())
    assert torch.allclose(variance_of_components(y), torch.ones(9), atol=0.2)


def test_scales_of_a_separable_convolution_are_one_on_average():
    layer = SeparableConvolution(2, CHANNELS, CHANNELS, 16, "SE(3)")
    scales = layer.radial(torch.randn(ROWS, 16))
    assert abs(scales.mean() - 1) < 0.1
    assert abs(scales.var() - 1) < 0.2


def test_linear_maps():
    y = DegreeLinear(2, CHANNELS, CHANNELS)(torch.randn(ROWS, 9, CHANNELS))
    assert torch.allclose(variance_of_components(y), torch.ones(9), atol=0.2)


def test_inputs_of_edges():
    layer = EdgeInputs(4, 12, CHANNELS)
    assert abs(48 * layer.linear.weight.var() - 1) < 0.1
