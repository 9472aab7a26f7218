import torch
from e3nn.o3 import Irreps

from molformer.so3 import degree_of_component, frame_order, from_irreps, irreps, num_components, to_irreps
from tests.helpers import rotation_and_matrix


def test_component_l_m_stands_at_l_squared_plus_l_plus_m():
    degrees = degree_of_component(3)
    assert len(degrees) == num_components(3) == 16
    assert [degrees.index(degree) for degree in range(4)] == [0, 1, 4, 9]


def test_frame_order_is_a_permutation_sorted_by_the_size_of_m():
    order = frame_order(4)
    assert sorted(order) == list(range(25))
    degrees = degree_of_component(4)
    orders = [index - degrees[index] ** 2 - degrees[index] for index in order]
    assert [abs(m) for m in orders] == sorted(abs(m) for m in orders)


def test_irreps_layout_turns_as_e3nn_turns_it():
    rotation, matrix = rotation_and_matrix(3)
    x = torch.randn(5, 16, 4, dtype=torch.float64)
    names = irreps(3, 4)
    assert names == Irreps("4x0e+4x1e+4x2e+4x3e")
    expected = to_irreps(x) @ names.D_from_matrix(rotation).T  # e3nn goes through angles and loses some digits
    assert torch.allclose(to_irreps(matrix @ x), expected, atol=1e-5)


def test_from_irreps_inverts_to_irreps():
    x = torch.randn(5, 9, 4)
    assert torch.equal(from_irreps(to_irreps(x), 2), x)


def test_parities_are_natural_with_e3():
    assert irreps(2, 8, "E(3)") == Irreps("8x0e+8x1o+8x2e")
