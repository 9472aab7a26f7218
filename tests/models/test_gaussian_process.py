from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from molformer.errors import InputError, ModelError
from molformer.models import PropertyModel
from molformer.models.descriptors import DescriptorSet
from molformer.models.gaussian_process import GaussianProcess
from molformer.targets import Label
from tests.helpers import random_graph, small_config

SET = DescriptorSet(("rdkit.MolWt",), 3, ("ecfp", "torsions"))
TARGETS = [Label("gap", "eV", "intensive"), Label("phase", "", "category", ("solid", "liquid", "gas"))]
SUPPORT = torch.tensor([[18.0, 1, 2, 0, 1, 0, 0], [46.0, 0, 0, 3, 0, 0, 0], [60.0, 9, 0, 0, 0, 1, 0]])
QUERY = torch.tensor([[18.0, 2, 1, 1, 1, 0, 0], [53.0, 0, 20, 0, 0, 0, 0]])


def process():
    torch.manual_seed(0)
    made = GaussianProcess(SET, TARGETS)
    made.set_statistics(SUPPORT.numpy())
    made.set_support(SUPPORT)
    made.mix, made.gain = torch.tensor([0.5, 0.2, 0.3]), torch.ones(4)
    made.weights, made.offset = torch.randn(3, 4), torch.randn(4)
    return made


def test_kernels_are_those_of_their_definition():
    kernels = process().kernels(QUERY)
    assert kernels.shape == (3, 2, 3)
    assert kernels[0, 0].tolist() == pytest.approx([2 / 5, 1 / 6, 2 / 10])  # Σ min / Σ max; counts above 8 are 8
    assert kernels[1, 0].tolist() == [1.0, 0.0, 0.0]  # one substructure both, none there, one other
    assert kernels[0, 1].tolist() == pytest.approx([2 / 9, 0, 0])
    distances = (torch.tensor([18.0, 46, 60]) - 53.0).square()
    exponents = -kernels[2, 1].log()
    assert (exponents / exponents[0]).tolist() == pytest.approx((distances / distances[0]).tolist(), rel=1e-4)


def test_a_molecule_of_the_support_is_wholly_like_itself():
    assert torch.allclose(process().kernels(SUPPORT[:1])[:, 0, 0], torch.ones(3))


def test_values_are_sums_over_the_support_and_zero_without_descriptors():
    made = process()
    missing = torch.full_like(QUERY[:1], torch.nan)
    values = made.values(torch.cat([QUERY, missing]))
    expected = sum(mix * kernel @ made.weights for mix, kernel in zip(made.mix, made.kernels(QUERY), strict=True))
    assert torch.allclose(values[:2], expected + made.offset, atol=1e-6)
    assert values[2].tolist() == [0.0] * 4
    graph = random_graph()
    x = torch.zeros(len(graph.pos), 1, 4)
    with pytest.raises(InputError, match="which this batch lacks"):
        made.columns(x, graph)


def test_values_that_a_batch_brings_along_are_taken():
    given = torch.arange(8.0).view(2, 4)
    graph = replace(random_graph(), descriptors=torch.cat([QUERY, given], dim=1))
    columns = process()(torch.zeros(len(graph.pos), 1, 4), graph)
    assert torch.equal(columns["gap"], given[:, 0].double())
    assert torch.equal(columns["phase"], given[:, 1:].double())


def fitted_model():
    made = process()
    model = PropertyModel(small_config(), TARGETS, descriptors=made.descriptors).eval()
    model.descriptors.load_state_dict(made.state_dict())
    return model


def test_a_saved_model_gives_the_same_numbers(tmp_path):
    model = fitted_model()
    model.save(tmp_path)
    graph = replace(random_graph(), descriptors=QUERY)
    graph = replace(graph, pos=graph.pos.float(), charge=graph.charge.float())
    again = PropertyModel.load(tmp_path)
    assert again.descriptor_set.support == 3
    for name, value in model(graph).items():
        assert torch.equal(value, again(graph)[name]), name
    bare = model(replace(graph, descriptors=torch.full_like(QUERY, torch.nan)))["gap"]
    added = model.descriptors.values(QUERY)[:, 0].double() * model.scale(TARGETS[0])
    assert torch.allclose(model(graph)["gap"], bare + added)


@pytest.mark.parametrize("entry", [-1, 10**6])
def test_addresses_out_of_range_are_refused(tmp_path, entry):
    fitted_model().save(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    weights = load_file(path)
    weights["descriptors.entries"][1, 0] = entry
    save_file(weights, path)
    with pytest.raises(ModelError, match="damaged"):
        PropertyModel.load(tmp_path)
