import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from molformer.so3 import (
    degree_of_component,
    edge_wigner,
    frame_order,
    num_components,
    spherical_harmonics,
)
from molformer.so3.coupling import wigner_3j

UP = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def near_the_poles():
    """Exactly ±y, and 1e-7 … 1e-3 off it."""
    directions = [UP, -UP]
    for pole in (UP, -UP):
        for angle in (1e-7, 1e-5, 1e-3):
            directions += [pole + torch.tensor([angle, 0, 0]), pole + torch.tensor([0, 0, -angle])]
    return torch.nn.functional.normalize(torch.stack(directions), dim=-1)


def directions(count=40):
    generator = torch.Generator().manual_seed(3)
    random = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    return torch.cat([torch.nn.functional.normalize(random, dim=-1), near_the_poles()])


@pytest.mark.parametrize("lmax", range(7))
def test_frames_put_the_edge_on_the_polar_axis(lmax):
    vectors = directions()
    turned = edge_wigner(vectors, lmax) @ spherical_harmonics(vectors, lmax)[:, :, None]
    degrees = degree_of_component(lmax)
    on_axis = [(2 * degrees[i] + 1) ** 0.5 * (i == degrees[i] ** 2 + degrees[i]) for i in frame_order(lmax)]
    assert torch.allclose(turned[:, :, 0], torch.tensor(on_axis, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("lmax", range(7))
def test_frames_are_orthogonal_in_both_precisions(lmax):
    eye = torch.eye(num_components(lmax), dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        frames = edge_wigner(directions().to(dtype), lmax)
        assert (frames @ frames.transpose(1, 2) - eye.to(dtype)).abs().max() < tolerance


def test_degree_one_is_the_rotation_itself_with_determinant_one():
    frames = edge_wigner(directions(), 1)
    rotation = torch.empty(len(frames), 3, 3, dtype=torch.float64)
    rotation[:, [index - 1 for index in frame_order(1)[1:]]] = frames[:, 1:, 1:]
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(len(frames), dtype=torch.float64), atol=1e-12)


def kernel(vectors):
    """A smooth function of directions that goes through the frames: D_2ᵀ K D_1 for one J, from length 1."""
    frames = edge_wigner(torch.nn.functional.normalize(vectors, dim=-1), 2)
    order = list(frame_order(2))
    natural = torch.zeros_like(frames).index_copy(1, torch.tensor(order), frames)
    block = torch.as_tensor(wigner_3j(2, 1, 2))[:, :, 2]
    return natural[:, 4:9, 4:9].transpose(1, 2) @ block @ natural[:, 1:4, 1:4]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-5, 1e-3, 0.4])
def test_gradient_and_hessian_are_right_at_the_poles_and_near_them(sign, angle):
    vectors = (sign * UP + torch.tensor([angle, 0.0, angle], dtype=torch.float64))[None].requires_grad_()
    assert gradcheck(kernel, vectors, atol=1e-7)
    assert gradgradcheck(kernel, vectors, atol=1e-6)


def test_what_depends_on_the_frames_is_continuous_where_their_choice_jumps():
    """At y = 0 the two choices differ by a roll about the edge, which the kernel does not see."""
    above = torch.tensor([[0.6, 1e-12, 0.8]], dtype=torch.float64)
    below = above * torch.tensor([1.0, -1.0, 1.0])
    assert (edge_wigner(above, 2) - edge_wigner(below, 2)).abs().max() > 0.1
    assert torch.allclose(kernel(above), kernel(below), atol=1e-10)
