"""The floor is counted from formulas; here they are held against what the real model multiplies."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floor import TIMES, floor_seconds, flops, kernel, products, traffic
from benchmarks.machine import Reach
from benchmarks.own import build
from benchmarks.peers.protocol import Request
from molformer.models import SE3TransformerConfig

REQUESTS = {
    "separable": {"lmax": 3, "channels": 32, "num_heads": 8, "num_layers": 2},
    "reflections": {"lmax": 2, "channels": 16, "num_heads": 4, "num_layers": 3, "group": "E(3)"},
    "degree 0": {"lmax": 0, "channels": 16, "num_heads": 4, "num_layers": 2},
    "full": {"lmax": 2, "channels": 16, "num_heads": 4, "num_layers": 2, "convolution": "full"},
}
MOLECULES, ATOMS = 2, 8
NODES, EDGES = MOLECULES * ATOMS, MOLECULES * ATOMS * (ATOMS - 1)


def counted(values, mode):
    """Operations of one step, as torch counts them while it runs."""
    work = build(Request(mode, MOLECULES, ATOMS, options={"config": values}))
    with FlopCounterMode(display=False) as counter:
        work.step()
    return counter.get_total_flops()


def needed(config, turns="blocks", order="least"):
    return sum(products(config, NODES, EDGES, turns, order).values())


@pytest.mark.parametrize("name", REQUESTS)
def test_the_forward_multiplies_what_the_formulas_say(name):
    config = SE3TransformerConfig(**REQUESTS[name])
    # Sums over the channels of a head are made as products with ones.
    sums = 2 * config.num_layers * EDGES * config.attended * config.num_heads
    found = counted(REQUESTS[name], "forward") - sums
    # In which of these orders is a matter of speed, but it must be one of them.
    forms = [needed(config, turns, order) for turns in ("dense", "blocks") for order in kernel(config)]
    assert min(abs(found / form - 1) for form in forms) < 0.03
    assert needed(config) < 1.03 * found


def test_the_full_kernel_is_cheaper_with_the_matrices_of_an_edge_written_out():
    orders = kernel(SE3TransformerConfig(**REQUESTS["full"]))
    assert orders["least"] == orders["written"] < orders["three"] < orders["four"]
    orders = kernel(SE3TransformerConfig(**REQUESTS["separable"]))
    assert orders["least"] == orders["three"] < orders["four"]
    orders = kernel(SE3TransformerConfig(**REQUESTS["reflections"]))
    assert orders["least"] == orders["three"] == orders["four"]


@pytest.mark.parametrize("mode", ["training", "forces"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_step_needs_no_more_than_is_multiplied_and_not_far_less(name, mode):
    found = counted(REQUESTS[name], mode)
    floor = flops(SE3TransformerConfig(**REQUESTS[name]), NODES, EDGES, mode)
    assert 0.3 * found < floor < 1.02 * found


def test_larger_models_need_more():
    small, large = (SE3TransformerConfig(lmax=lmax, channels=16) for lmax in (1, 2))
    for mode in TIMES:
        assert flops(large, 100, 1000, mode) > flops(small, 100, 1000, mode)
        assert traffic(large, 100, 1000, 10, mode) > traffic(small, 100, 1000, 10, mode)


def test_the_floor_is_the_longer_of_computing_and_moving():
    config = SE3TransformerConfig(lmax=1, channels=16, num_heads=4)
    work, moved = flops(config, 10, 90, "forward"), traffic(config, 10, 90, 1000, "forward")
    assert floor_seconds(config, 10, 90, 1000, "forward", Reach(work / 2, moved)) == pytest.approx(2)
    assert floor_seconds(config, 10, 90, 1000, "forward", Reach(work, moved / 3)) == pytest.approx(3)


def test_the_frames_of_the_floor_are_those_of_the_model():
    from benchmarks.floor import _frame_numbers
    from molformer.so3 import edge_wigner

    frames = edge_wigner(torch.nn.functional.normalize(torch.randn(20, 3), dim=-1), 3)
    assert int((frames.abs() > 1e-6).any(0).sum()) <= _frame_numbers(3)


def test_narrow_messages_need_less_on_edges_and_a_little_more_on_nodes():
    wide = SE3TransformerConfig(lmax=2, channels=64)
    narrow = SE3TransformerConfig(lmax=2, channels=64, message_channels=32)
    assert flops(narrow, 10, 10_000, "forward") < 0.4 * flops(wide, 10, 10_000, "forward")
    assert flops(narrow, 10_000, 0, "forward") == pytest.approx(flops(wide, 10_000, 0, "forward"), rel=0.1)
