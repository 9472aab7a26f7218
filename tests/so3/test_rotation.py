import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from molformer.so3 import (
    dense_edge_wigner,
    edge_wigner,
    edge_wigner_blocks,
    num_components,
    rotate_from_edges,
    rotate_to_edges,
)
from molformer.so3.rotation import DENSE_LMAX, dense
from tests.so3.test_frames import directions, near_the_poles

LMAX = pytest.mark.parametrize("lmax", range(1, 7))


@LMAX
def test_blocks_are_those_of_the_whole_matrices(lmax):
    whole, blocks = dense_edge_wigner(directions(), lmax), edge_wigner_blocks(directions(), lmax)
    assert blocks.shape[1] == sum((2 * degree + 1) ** 2 for degree in range(1, lmax + 1))
    assert (dense(blocks, lmax) - whole).abs().max() < 1e-12
    assert dense(whole, lmax) is whole


@LMAX
def test_both_forms_rotate_equally(lmax):
    whole, blocks = dense_edge_wigner(directions(), lmax), edge_wigner_blocks(directions(), lmax)
    x = torch.randn(len(whole), num_components(lmax), 3, dtype=torch.float64)
    for turn in (rotate_to_edges, rotate_from_edges):
        assert torch.allclose(turn(blocks, x), turn(whole, x), atol=1e-12)
    assert torch.allclose(rotate_from_edges(blocks, rotate_to_edges(blocks, x)), x, atol=1e-12)


@pytest.mark.parametrize("lmax", [DENSE_LMAX, DENSE_LMAX + 1])
def test_the_form_depends_on_the_degree(lmax):
    assert edge_wigner(directions(), lmax).ndim == (3 if lmax <= DENSE_LMAX else 2)


def test_blocks_have_derivatives_at_the_poles():
    vectors = near_the_poles().requires_grad_()

    def there_and_back(vectors):
        """A function that does not depend on the roll about the edge: only m = 0 is kept in the frame."""
        blocks = edge_wigner_blocks(torch.nn.functional.normalize(vectors, dim=-1), 4)
        framed = rotate_to_edges(blocks, torch.linspace(-1, 1, 25, dtype=torch.float64)[None, :, None].repeat(14, 1, 1))
        return framed[:, :5].square().sum()

    assert len(vectors) == 14
    assert gradcheck(there_and_back, vectors, eps=1e-5, atol=1e-5)
    assert gradgradcheck(there_and_back, vectors, eps=1e-5, atol=1e-4)
