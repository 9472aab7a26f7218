import torch

from molformer.nn import Edges, smooth_softmax


def edges(dst, envelope, nodes=3):
    dst = torch.tensor(dst)
    nothing = torch.zeros(len(dst), 1, 1)
    return Edges(dst, dst, nodes, nothing, nothing[:, 0], torch.tensor(envelope, dtype=torch.float64))


def test_weights_are_the_softmax_with_a_constant_in_the_denominator():
    logits = torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)
    weights = smooth_softmax(logits, edges([0, 0, 1], [1.0, 0.5, 1.0]))
    first = torch.tensor([1.0]).double().exp() / (1 + torch.tensor(1.0).double().exp() + 0.5 * torch.tensor(2.0).exp())
    assert torch.isclose(weights[0, 0], first[0], atol=1e-7)
    assert weights.sum() < 2


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weights = smooth_softmax(logits, edges([0, 0], [1.0, 1.0]))
    weights.sum().backward()
    assert torch.allclose(weights.detach(), torch.tensor([[1.0], [0.0]], dtype=weights.dtype))
    assert logits.grad.isfinite().all()


def test_an_edge_at_the_cutoff_has_no_weight_and_no_influence():
    logits = torch.tensor([[1.0], [50.0]], dtype=torch.float64)
    alone = smooth_softmax(logits[:1], edges([0], [1.0]))
    both = smooth_softmax(logits, edges([0, 0], [1.0, 0.0]))
    assert torch.allclose(both[:1], alone, atol=1e-12)
    assert both[1] == 0
