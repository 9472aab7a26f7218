"""What the atoms of a molecule add to its prediction."""

import numpy as np
import pytest
import torch

import molformer
from molformer.data.structure import Label
from molformer.errors import InputError, UnsupportedElementError
from molformer.inference.predictor import Predictor
from molformer.models import Domain, PropertyModel
from tests.helpers import moved, random_structure, small_config

TARGETS = [
    Label("gap", "eV", "intensive"),
    Label("energy", "eV", "extensive"),
    Label("charges", "e", "charges"),
    Label("shift", "", "atom"),
    Label("dipole", "D", "vector"),
    Label("active", "", "binary"),
    Label("mu", "D", "vector_length"),
    Label("alpha", "a0^3", "isotropic_tensor"),
    Label("r2", "a0^2", "spatial_extent"),
]
SCALARS = ("gap", "energy", "mu", "alpha", "r2")


@pytest.fixture(scope="module", params=["mean", "attention"])
def predictor(request):
    torch.manual_seed(0)
    model = PropertyModel(small_config(num_layers=1), TARGETS, request.param, Domain((1, 6, 7, 8), 9, ("given",)))
    moved(model)
    for name in ("gap", "energy", "alpha"):
        model.head(name).set_statistics(3.0, torch.linspace(-2, 5, 119), 6.0)
    model.head("r2").set_statistics(3.0, torch.rand(2, 119), 6.0)
    return Predictor(model.double())


def test_they_add_up_to_the_prediction(predictor):
    for atoms in (1, 6):
        structure = random_structure(atoms)
        found, row = predictor.contributions(structure), predictor.predict(structure)[0]
        assert sorted(found) == sorted(["charges", "shift", *SCALARS])
        for name in SCALARS:
            assert found[name].shape == (atoms,)
            assert found[name].sum() == pytest.approx(float(row[name]), rel=1e-9, abs=1e-12)
        for name in ("charges", "shift"):
            np.testing.assert_allclose(found[name], row[name].value, rtol=1e-9)


def test_references_of_the_elements_can_be_left_out(predictor):
    structure = random_structure(6)
    whole, rest = (predictor.contributions(structure, references) for references in (True, False))
    references = np.linspace(-2, 5, 119)[structure.numbers]
    np.testing.assert_allclose(whole["energy"] - rest["energy"], references, atol=1e-5)
    np.testing.assert_allclose(whole["gap"] - rest["gap"], references / 6, atol=1e-5)
    np.testing.assert_array_equal(whole["charges"], rest["charges"])


def test_weights_that_an_atom_receives_are_all_that_are_given(predictor):
    attention = predictor.attention(random_structure(6))
    received = attention.received()
    given = sum(attention.matrix(layer) for layer in range(len(attention.weights))) / len(attention.weights)
    np.testing.assert_allclose(received, given.sum(0))


def test_one_molecule_that_the_model_can_take_is_needed(predictor):
    with pytest.raises(InputError, match="one molecule at a time, and there are 2"):
        predictor.contributions(["C", "O"])
    with pytest.raises(UnsupportedElementError, match="Br"):
        predictor.contributions(molformer.Structure([35], [[0, 0, 0]]))
