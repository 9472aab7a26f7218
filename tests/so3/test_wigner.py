import torch

from molformer.so3 import random_rotation, spherical_harmonics, wigner_matrix


def test_harmonics_turn_with_the_matrix():
    rotation = random_rotation(torch.Generator().manual_seed(1))
    vectors = torch.randn(20, 3, dtype=torch.float64)
    turned = spherical_harmonics(vectors @ rotation.T, 6)
    expected = spherical_harmonics(vectors, 6) @ wigner_matrix(rotation, 6).T
    assert torch.allclose(turned, expected, atol=1e-9)


def test_matrices_form_a_representation():
    first, second = random_rotation(torch.Generator().manual_seed(1)), random_rotation(torch.Generator().manual_seed(2))
    product = wigner_matrix(first, 6) @ wigner_matrix(second, 6)
    assert torch.allclose(wigner_matrix(first @ second, 6), product, atol=1e-12)


def test_random_rotations_have_determinant_one():
    rotation = random_rotation()
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.isclose(torch.linalg.det(rotation), torch.tensor(1.0, dtype=torch.float64))
