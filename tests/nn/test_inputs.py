import torch

from molformer.nn.inputs import EdgeInputs, NodeInputs


def test_features_of_nodes_and_edges_are_their_formulas():
    vectors, scalars, direction = torch.randn(3, 2, 3), torch.randn(3, 1), torch.randn(4, 3)
    layer = NodeInputs(1, 2, 1, 8)
    y = layer(vectors, scalars)
    assert y.shape == (3, 4, 8)
    assert torch.allclose(y[:, 0], layer.scalars(torch.cat([scalars, vectors.square().sum(-1)], dim=1)), atol=1e-6)
    assert torch.allclose(y[:, 1:], torch.einsum("nvx,cv->nxc", vectors, layer.vectors.weight), atol=1e-6)
    src, dst = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 0, 0, 2])
    edge = EdgeInputs(2, 1, 8)
    u, v, s, t = vectors[src], vectors[dst], scalars[src], scalars[dst]
    dots = [torch.einsum("evx,ex->ev", ends, direction) for ends in (u, v)]
    expected = edge.linear(torch.cat([s, t, s * t, *dots, torch.einsum("evx,evx->ev", u, v)], dim=1))
    assert torch.allclose(edge(vectors, scalars, src, dst, direction), expected, atol=1e-5)
