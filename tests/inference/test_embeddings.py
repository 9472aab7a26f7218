from dataclasses import replace

import numpy as np
import pytest

import molformer
from molformer.data.conformers import embed_smiles
from molformer.errors import ConfigError, InputError
from molformer.so3 import random_rotation


def test_features_are_invariant_and_there_is_a_row_for_every_input(folder):
    predictor = molformer.load(folder)
    structure = embed_smiles("CCO")
    turned = replace(structure, pos=structure.pos @ random_rotation().numpy().T + 3.0)
    features = predictor.embed([structure, "nonsense", turned, "CCN"])
    assert features.shape == (4, 8 * 3)
    assert np.isnan(features[1]).all()
    assert np.allclose(features[0], features[2], atol=1e-4)
    assert np.abs(features[0] - features[3]).max() > 1e-3


def test_features_of_a_molecule_are_the_mean_of_those_of_its_atoms(folder):
    predictor = molformer.load(folder)
    ethanol, missing, methane = predictor.embed(["CCO", "nonsense", "C"], level="atom")
    assert (ethanol.shape, missing, methane.shape) == ((9, 24), None, (5, 24))
    assert np.allclose(ethanol.mean(0), predictor.embed("CCO")[0], atol=1e-6)
    assert (ethanol[:, 8:] >= 0).all()  # norms
    with pytest.raises(ConfigError, match="level is 'bond'; choose one of molecule, atom"):
        predictor.embed("C", level="bond")


def test_attention_has_weights_for_every_layer_head_and_edge(folder):
    predictor = molformer.load(folder)
    found = predictor.attention("CCO")
    atoms = len(found.structure)
    assert found.weights.shape == (3, len(found.src), 2)
    assert len(found.src) == atoms * (atoms - 1)  # all are near
    matrix = found.matrix(layer=1, head=0)
    assert matrix.shape == (atoms, atoms)
    assert (np.diag(matrix) == 0).all()
    assert (matrix.sum(1) < 1).all()
    assert matrix[found.dst[4], found.src[4]] == pytest.approx(found.weights[1, 4, 0])
    assert np.allclose(found.matrix(1), (matrix + found.matrix(1, head=1)) / 2)


def test_attention_is_that_of_the_forward_pass(folder, monkeypatch):
    """The weights that the model sums its messages with, seen on the way, are those that are given."""
    from molformer.nn.attention import SE3Attention

    predictor = molformer.load(folder)
    expected = predictor.attention("CCO").weights
    seen, per_channel = [], SE3Attention.per_channel

    def spy(layer, weights):
        if len(weights) == expected.shape[1]:  # of edges, not those of nodes
            seen.append(weights.numpy())
        return per_channel(layer, weights)

    monkeypatch.setattr(SE3Attention, "per_channel", spy)
    predictor.predict("CCO")
    assert len(seen) == len(expected)
    assert np.allclose(np.stack(seen), expected, atol=1e-5)


def test_attention_is_for_one_molecule(folder):
    with pytest.raises(InputError, match="there are 2"):
        molformer.load(folder).attention(["C", "CC"])
    with pytest.raises(InputError, match="is not a SMILES"):
        molformer.load(folder).attention("nonsense")
