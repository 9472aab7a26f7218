"""What is kept of weights between inferences never outlives their values."""

import copy
import pickle

import pytest
import torch

from molformer.models import SE3Transformer, SE3TransformerConfig
from molformer.nn.prepared import Prepared, weights_kept
from tests.helpers import random_graph


@pytest.mark.parametrize("convolution", ["separable", "full"])
@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_weights_that_change_count_at_once(convolution, group):
    sizes = {"lmax": 1, "channels": 8, "num_layers": 1, "num_heads": 2, "basis_size": 4, "edge_features": 8}
    encoder = SE3Transformer(SE3TransformerConfig(**sizes, convolution=convolution, group=group)).double()
    graph = random_graph()

    def kept():
        with torch.no_grad(), weights_kept():
            return encoder(graph)

    def anew():
        return encoder(graph).detach()  # with gradients, nothing is kept

    assert torch.equal(kept(), kept())
    for parameter in encoder.parameters():
        with torch.no_grad():
            parameter.add_(0.1)
        assert torch.allclose(kept(), anew(), atol=1e-12)
    other = {name: value + 0.1 for name, value in encoder.state_dict().items()}
    encoder.load_state_dict(other)
    assert torch.allclose(kept(), anew(), atol=1e-12)
    encoder.float()
    with torch.no_grad(), weights_kept():
        single = encoder(random_graph(dtype=torch.float32))
    encoder.double()  # the addresses may be those of before
    assert torch.allclose(kept(), anew(), atol=1e-12)
    assert torch.allclose(kept(), single.double(), atol=1e-4)


def test_weights_that_are_swapped_in_and_out_count_outside_of_predictions():
    weight, prepared = torch.ones(3), Prepared()
    with torch.no_grad():
        assert prepared([weight], lambda: [weight + 1])[0].tolist() == [2.0] * 3
        weight.data.fill_(4.0)
        assert prepared([weight], lambda: [weight + 1])[0].tolist() == [5.0] * 3


def test_copies_have_nothing_kept():
    weight, prepared = torch.ones(3), Prepared()
    with torch.no_grad(), weights_kept():
        value = prepared([weight], lambda: [weight + 1])
        assert prepared([weight], lambda: pytest.fail("it was made again")) is value
        for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
            assert other([weight], lambda: [weight + 2])[0].tolist() == [3.0] * 3
