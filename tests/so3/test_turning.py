import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from molformer.so3 import edge_frames, frame_blocks, num_components, turning
from tests.so3.test_frames import directions, near_the_poles

LMAX = pytest.mark.parametrize("lmax", range(1, 7))


@LMAX
def test_blocks_are_those_of_the_whole_matrices(lmax):
    whole, blocks = edge_frames(directions(), lmax), frame_blocks(directions(), lmax)
    assert blocks.shape[1] == sum((2 * degree + 1) ** 2 for degree in range(1, lmax + 1))
    assert (turning.dense(blocks, lmax) - whole).abs().max() < 1e-12
    assert turning.dense(whole, lmax) is whole


@LMAX
def test_both_forms_turn_alike(lmax):
    whole, blocks = edge_frames(directions(), lmax), frame_blocks(directions(), lmax)
    x, y = torch.randn(2, len(whole), num_components(lmax), 3, dtype=torch.float64)
    for turn in (turning.turn_in, turning.turn_back):
        assert torch.allclose(turn(blocks, x), turn(whole, x), atol=1e-12)
    assert torch.allclose(turning.turn_back(blocks, turning.turn_in(blocks, x)), x, atol=1e-12)
    for frames in (whole, blocks):
        frames.requires_grad_()
        (gradient,) = torch.autograd.grad(
            (y * turning.turn_in(frames, x)).sum() + turning.turn_in(frames, y).sum(), frames
        )
        pairs = [(y, x), (torch.ones_like(y), y)]
        assert torch.allclose(turning.frames_gradient(frames.detach(), pairs), gradient, atol=1e-12)


def test_blocks_have_derivatives_at_the_poles():
    vectors = near_the_poles().requires_grad_()

    def there_and_back(vectors):
        """A function that does not depend on the roll about the edge: only m = 0 is kept in the frame."""
        blocks = frame_blocks(torch.nn.functional.normalize(vectors, dim=-1), 4)
        framed = turning.turn_in(blocks, torch.linspace(-1, 1, 25, dtype=torch.float64)[None, :, None].repeat(14, 1, 1))
        return framed[:, :5].square().sum()

    assert len(vectors) == 14
    assert gradcheck(there_and_back, vectors, eps=1e-5, atol=1e-5)
    assert gradgradcheck(there_and_back, vectors, eps=1e-5, atol=1e-4)
