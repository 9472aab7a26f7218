import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.errors import ConfigError, ModelError
from molformer.graph import GraphBatch
from molformer.models import PropertyModel
from molformer.models.descriptors import CLIP, DescriptorMLP, DescriptorSet
from molformer.models.equivariance import equivariance_error
from molformer.targets import Label
from tests.helpers import moved, random_graph, random_structure, small_config

SET = DescriptorSet(("rdkit.MolWt", "rdkit.TPSA"), 3, ("ecfp",))
ENERGY, FORCES = Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")
TARGETS = [
    Label("gap", "eV", "intensive"),
    ENERGY,
    FORCES,
    Label("active", "", "binary"),
    Label("phase", "", "category", ("solid", "liquid", "gas")),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
]
VALUES = torch.tensor([[18.0, 40.0, 0, 1, 3], [torch.nan, 1e9, 2, 0, 0]], dtype=torch.float32)
MISSING = torch.full_like(VALUES, torch.nan)


def set_statistics(readout, centre, spread, present):
    readout.centre[:2] = torch.tensor(centre)
    readout.spread.copy_(torch.tensor([*spread, *present]))


def model_with(targets=TARGETS, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = moved(PropertyModel(small_config(**kwargs), targets, descriptors=SET)).double().eval()
    set_statistics(model.descriptors, [16.0, 30.0], [4.0, 10.0], [1.0, 1.0, 0.0])
    return model


def graph_with(descriptors=VALUES):
    return replace(random_graph(), descriptors=descriptors)


def test_they_are_standardised_clipped_and_zero_where_missing():
    readout = DescriptorMLP(SET, 4, TARGETS[:1]).eval()
    set_statistics(readout, [16.0, 30.0], [4.0, 0.0], [1.0, 1.0, 0.0])
    one, other = readout.standardised(VALUES).tolist()
    # (18 - 16) / 4; no spread in training; log(1 + 0), log(1 + 1); a bit that training lacks
    assert one == pytest.approx([0.5, 0.0, 0.0, np.log(2), 0.0])
    assert other == pytest.approx([0.0, 0.0, np.log(3), 0.0, 0.0])  # a missing one is at the median
    set_statistics(readout, [16.0, 30.0], [4.0, 10.0], [1.0, 1.0, 1.0])
    assert readout.standardised(VALUES)[1, 1] == CLIP


@pytest.mark.parametrize("descriptors", [None, MISSING])
def test_without_descriptors_there_is_a_flag_alone(descriptors):
    readout = DescriptorMLP(SET, 4, TARGETS[:1]).eval()
    set_statistics(readout, [16.0, 30.0], [4.0, 10.0], [1.0, 1.0, 1.0])
    assert readout.inputs(graph_with(descriptors)).tolist() == [[0.0] * 5 + [1.0]] * 2


def test_they_are_joined_to_numbers_and_classes_of_a_graph_in_units_of_the_scale():
    model = model_with()
    graph = model.differentiable(graph_with())
    model.head("gap").set_statistics(3.0, torch.zeros(119), 1.0)
    joined = model.descriptors(model.features(graph), graph)
    assert {name: tuple(value.shape) for name, value in joined.items()} == {
        "gap": (2,),
        "energy": (2,),
        "active": (2,),
        "phase": (2, 3),
    }
    x = model.features(graph)
    values = model.readout(x, graph)
    assert torch.allclose(values["gap"], model.head("gap")(x, graph) + 3.0 * joined["gap"])
    assert torch.allclose(values["phase"], model.head("phase")(x, graph) + joined["phase"])
    assert torch.equal(values["dipole"], model.head("dipole")(x, graph))
    other = model(graph_with(VALUES + 1.0))
    assert not torch.allclose(other["energy"], values["energy"])


def test_a_new_model_predicts_as_without():
    torch.manual_seed(0)
    plain = PropertyModel(small_config(), TARGETS).eval()
    torch.manual_seed(0)
    model = PropertyModel(small_config(), TARGETS, descriptors=SET).eval()
    graph = graph_with().to("cpu")
    graph = replace(graph, pos=graph.pos.float(), charge=graph.charge.float())
    for name, value in plain(graph).items():
        assert torch.equal(value, model(graph)[name]), name


def test_dropout_acts_in_training_alone():
    model, graph = model_with(TARGETS[:1]), graph_with()
    assert torch.equal(model(graph)["gap"], model(graph)["gap"])
    model.train()
    assert not torch.equal(model(graph)["gap"], model(graph)["gap"])


def test_some_graphs_lose_their_descriptors_in_training():
    readout = model_with(TARGETS[:1], molecular_graph=True, drop_graph=1.0).descriptors
    assert readout.train().inputs(graph_with())[:, -1].tolist() == [1.0, 1.0]
    assert readout.eval().inputs(graph_with())[:, -1].tolist() == [0.0, 0.0]


def test_forces_are_minus_the_gradient_of_the_energy():
    model, graph = model_with([ENERGY, FORCES]), graph_with()
    forces, step = model(graph)["forces"], 1e-5
    for atom, axis in ((0, 0), (7, 2)):
        shift = torch.zeros_like(graph.pos)
        shift[atom, axis] = step
        energies = [model(replace(graph, pos=graph.pos + sign * shift))["energy"].sum().item() for sign in (1, -1)]
        assert abs(-(energies[0] - energies[1]) / (2 * step) - forces[atom, axis].item()) < 1e-6


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_the_model_is_equivariant(group):
    errors = equivariance_error(model_with(group=group), graph_with(), torch.float64)
    assert max(errors.values()) < 1e-10


def test_a_graph_alone_is_the_same_as_in_a_batch():
    model = model_with()
    rows = [None, VALUES[0].numpy(), VALUES[1].numpy()]
    structures = [replace(random_structure(4, seed=seed), descriptors=row) for seed, row in enumerate(rows)]
    whole = model(GraphBatch.from_structures(structures, torch.float64))
    for place, structure in enumerate(structures):
        alone = model(GraphBatch.from_structures([structure], torch.float64))
        assert torch.allclose(alone["gap"][0], whole["gap"][place], atol=1e-10)


def test_a_saved_model_gives_the_same_numbers(tmp_path):
    model = model_with().float()
    model.save(tmp_path)
    again = PropertyModel.load(tmp_path)
    assert again.descriptor_set == SET
    graph = replace(graph_with(), pos=graph_with().pos.float(), charge=graph_with().charge.float())
    for name, value in model(graph).items():
        assert torch.equal(value, again(graph)[name]), name


@pytest.mark.parametrize("change", [{"bits": 10**12}, {"names": ["rdkit.MolWt"]}, {"names": 3}, {"bits": "many"}])
def test_a_folder_whose_weights_are_of_other_descriptors_is_refused(tmp_path, change):
    model_with().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["descriptors"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="damaged or does not fit") as caught:
        PropertyModel.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_vectors_alone_takes_none():
    with pytest.raises(ConfigError, match="no target is one"):
        PropertyModel(small_config(), [Label("dipole", "D", "vector")], descriptors=SET)
