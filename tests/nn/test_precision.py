"""Frames and readouts are computed in float32 where the layers between them are not."""

import pytest
import torch

from molformer.data.structure import Label
from molformer.models import PropertyModel
from molformer.nn import precision
from tests.helpers import moved, random_graph, small_config


@pytest.fixture
def model():
    return moved(PropertyModel(small_config(), [Label("gap", "eV", "intensive")]))


@pytest.mark.parametrize("tf32", [True, False])
def test_frames_and_readout_are_in_float32(model, monkeypatch, tf32):
    import molformer.models.property as property_module
    import molformer.nn.edges as edges_module

    seen = []
    frames, head = edges_module.edge_wigner, model.head("gap").read

    def spy(name, function):
        def called(*arguments):
            result = function(*arguments)
            seen.append((name, torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu"), result.dtype))
            return result

        return called

    monkeypatch.setattr(edges_module, "edge_wigner", spy("frames", frames))
    monkeypatch.setattr(model.head("gap"), "read", spy("readout", head))
    assert property_module.full_precision is precision.full_precision
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=not tf32):
            model(random_graph(dtype=torch.float32))
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert ("frames", "highest", False, torch.float32) in seen
    assert ("readout", "highest", False, torch.float64) in seen


def test_bfloat16_stays_near_float32_and_keeps_float32_weights(model):
    graph = random_graph(dtype=torch.float32)
    exact = model(graph)["gap"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(graph)["gap"]
    assert rough.dtype == exact.dtype == torch.float64
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()
    rough.sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {torch.float32}


def test_the_setting_is_restored_after_an_error():
    torch.set_float32_matmul_precision("high")
    with pytest.raises(ValueError, match="broken"), precision.full_precision("cpu"):
        raise ValueError("broken")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
