import torch
from e3nn import o3

from molformer.so3 import spherical_harmonics


def test_equal_to_e3nn_up_to_degree_six():
    vectors = torch.randn(50, 3, dtype=torch.float64)
    expected = o3.spherical_harmonics(list(range(7)), vectors, normalize=False, normalization="component")
    assert torch.allclose(spherical_harmonics(vectors, 6), expected, atol=1e-9, rtol=1e-12)


def test_gradient_is_finite_at_the_origin_and_at_the_poles():
    vectors = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=torch.float64, requires_grad=True)
    spherical_harmonics(vectors, 4).sum().backward()
    assert vectors.grad.isfinite().all()
