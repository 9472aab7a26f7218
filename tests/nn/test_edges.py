import torch

from molformer.nn.edges import polar


def test_lengths_and_directions_of_short_edges():
    """An edge below 1e-6 Å has no direction; a longer one has its own."""
    vectors = torch.tensor([[0.0, 0, 0], [0, 0, 9e-7], [0, 0, -2e-6], [3.0, 0, 4]], dtype=torch.float64)
    length, direction, zero = polar(vectors)
    assert zero.tolist() == [True, True, False, False]
    assert torch.allclose(length, torch.tensor([1, 1, 2e-6, 5]).double())
    expected = torch.tensor([[0, 1, 0], [0, 1, 0], [0, 0, -1], [0.6, 0, 0.8]]).double()
    assert torch.allclose(direction, expected)
