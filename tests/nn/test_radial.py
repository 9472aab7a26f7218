import torch
from torch.autograd import gradcheck

from molformer.nn import BesselBasis, PolynomialEnvelope


def test_bessel_functions_follow_their_formula():
    r = torch.linspace(0.1, 4.9, 20, dtype=torch.float64)
    expected = torch.stack([(2 / 5.0) ** 0.5 * torch.sin(n * torch.pi * r / 5.0) / r for n in range(1, 9)], dim=-1)
    assert torch.allclose(BesselBasis(5.0, 8)(r), expected, atol=1e-12)


def test_bessel_functions_do_not_depend_on_the_unit_of_length():
    r = torch.linspace(0, 5, 20, dtype=torch.float64)
    assert torch.allclose(BesselBasis(0.35, 8)(0.07 * r), BesselBasis(5.0, 8)(r), atol=1e-12)


def test_weights_saved_before_lengths_were_scaled_keep_their_basis():
    r = torch.linspace(0.1, 3.9, 20, dtype=torch.float64)
    published = torch.stack([(2 / 4.0) ** 0.5 * torch.sin(n * torch.pi * r / 4.0) / r for n in range(1, 9)], dim=-1)
    old = BesselBasis(4.0, 8)
    old.load_state_dict({})
    again = BesselBasis(4.0, 8)
    again.load_state_dict(old.state_dict())
    for basis in (old, again):
        assert torch.allclose(basis(r), published, atol=1e-12)
    new = BesselBasis(4.0, 8)
    new.load_state_dict(BesselBasis(4.0, 8).state_dict())
    assert torch.allclose(new(r), (4 / 5) ** 1.5 * published, atol=1e-12)


def test_bessel_functions_are_orthogonal_on_the_ball():
    r = torch.linspace(0, 5, 20001, dtype=torch.float64)
    basis = BesselBasis(5.0, 4)(r)
    overlap = torch.trapezoid(basis[:, :, None] * basis[:, None] * r[:, None, None] ** 2, r, dim=0)
    assert torch.allclose(overlap, torch.eye(4, dtype=torch.float64), atol=1e-6)


def test_envelope_ends_at_the_cutoff_with_two_derivatives():
    r = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    value = PolynomialEnvelope(5.0)(r)
    (first,) = torch.autograd.grad(value, r, create_graph=True)
    (second,) = torch.autograd.grad(first, r)
    assert max(value.abs().item(), first.abs().item(), second.abs().item()) < 1e-10


def test_both_are_finite_with_right_gradients_at_zero_length():
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(BesselBasis(5.0, 8), zero)
    assert PolynomialEnvelope(5.0)(zero).item() == 1
