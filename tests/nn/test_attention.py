import math

import pytest
import torch

from molformer.nn import Edges, SE3Attention, SeparableConvolution, smooth_softmax
from tests.helpers import embedded_edges, moved, random_graph


def edges(dst, envelope, nodes=3):
    dst = torch.tensor(dst)
    nothing = torch.zeros(len(dst), 1, 1)
    return Edges(dst, dst, nodes, nothing, nothing[:, 0], torch.tensor(envelope, dtype=torch.float64))


@pytest.fixture(params=[True, False], ids=["gradients", "no gradients"])
def either_way(request):
    """With gradients and without."""
    with torch.set_grad_enabled(request.param):
        yield


@pytest.mark.usefixtures("either_way")
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
    with torch.no_grad():
        assert torch.equal(smooth_softmax(logits, edges([0, 0], [1.0, 1.0])), weights)
    assert torch.allclose(weights.detach(), torch.tensor([[1.0], [0.0]], dtype=weights.dtype))
    assert logits.grad.isfinite().all()


@pytest.mark.usefixtures("either_way")
def test_an_edge_at_the_cutoff_has_no_weight_and_no_influence():
    logits = torch.tensor([[1.0], [50.0]], dtype=torch.float64)
    alone = smooth_softmax(logits[:1], edges([0], [1.0]))
    both = smooth_softmax(logits, edges([0, 0], [1.0, 0.0]))
    assert torch.allclose(both[:1], alone, atol=1e-12)
    assert both[1] == 0


@pytest.mark.parametrize(("logit", "weight"), [(100.0, 1e-25), (1000.0, 0.0)])
def test_a_leaving_edge_of_large_logit_leaves_gradients_finite(logit, weight):
    """Its term is small and the other one is smaller still: the sum must not underflow, nor the term overflow."""
    logits = torch.tensor([[logit], [-1.0]], requires_grad=True)
    envelope = torch.tensor([weight, 1.0], requires_grad=True)
    given = edges([0, 0], [1.0, 1.0])
    given = Edges(given.src, given.dst, given.num_nodes, given.wigner, given.features, envelope)
    weights = smooth_softmax(logits, given)
    weights.square().sum().backward()
    with torch.no_grad():
        assert torch.allclose(smooth_softmax(logits, given), weights, rtol=1e-4)
    exact = torch.tensor([[weight * math.exp(min(logit, 100))], [math.exp(-1)]], dtype=torch.float64)
    assert torch.allclose(weights.detach().double(), exact / (1 + exact.sum()), rtol=1e-4)
    assert logits.grad.isfinite().all()
    assert envelope.grad.isfinite().all()


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_is_its_equation(qk_norm):
    """Evaluated node by node and head by head, with keys and values narrower than the features of the nodes."""
    heads, graph = 3, random_graph()
    given = embedded_edges(graph, 2)
    convolution = SeparableConvolution(2, 4, 6, 16, "SE(3)", outputs=2)
    layer = moved(SE3Attention(2, 8, heads, convolution, qk_norm)).double()
    x = torch.randn(len(graph.pos), 9, 8, dtype=torch.float64)
    framed = convolution(given.wigner @ layer.sender(x)[given.src], given.features)
    keys, values = (given.wigner.transpose(1, 2) @ framed).chunk(2, dim=-1)
    messages = torch.zeros(len(x), 9, 6, dtype=torch.float64)
    for node, query in enumerate(layer.query(x)):
        into = given.dst == node
        for head, channels in enumerate(torch.arange(6).chunk(heads)):
            q, k = query[:, channels], keys[into][:, :, channels]
            if qk_norm:
                q = layer.gain[head] * q / (q.square().mean() + 1e-6).sqrt()
                k = k / (k.square().mean((1, 2), keepdim=True) + 1e-6).sqrt()
            terms = given.envelope[into] * ((q * k).sum((1, 2)) / math.sqrt(9 * 2)).exp()
            weights = terms / (1 + terms.sum())
            messages[node, :, channels] = torch.einsum("e,emc->mc", weights, values[into][:, :, channels])
    assert torch.allclose(layer(x, given), layer.self_interaction(x) + layer.output(messages), atol=1e-12)
