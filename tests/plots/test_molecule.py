import numpy as np
import pytest

from molformer.data.conformers import embed_smiles
from molformer.plots import molecule
from molformer.plots.molecule import bonds, flattened


@pytest.fixture(scope="module")
def alanine():
    return embed_smiles("C[C@H](N)C(=O)O")


def volume(pos):
    return np.linalg.det(pos[[1, 2, 3]] - pos[0])


def test_flattened_turns_and_does_not_mirror(alanine):
    flat = flattened(alanine.pos)
    assert np.allclose(np.linalg.norm(flat[:, None] - flat, axis=-1), distances(alanine.pos), atol=1e-5)
    assert volume(flat) == pytest.approx(volume(alanine.pos), rel=1e-4)
    mirrored = flattened(alanine.pos * [1, 1, -1])
    assert volume(mirrored) == pytest.approx(-volume(flat), rel=1e-4)
    spread = flat.std(0)
    assert spread[0] >= spread[1] >= spread[2]


def test_flattened_is_independent_of_the_orientation(alanine):
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)
    assert np.allclose(flattened(alanine.pos @ turn.T), flattened(alanine.pos), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_flattened_takes_few_atoms(count):
    assert flattened(np.arange(3.0 * count).reshape(count, 3)).shape == (count, 3)


def test_bonds_are_those_of_the_molecule(alanine):
    assert len(bonds(alanine.numbers, alanine.pos)) == 12  # no ring: one fewer than atoms


def test_a_value_has_a_colour_and_a_unit(alanine):
    values = np.linspace(-1, 2, len(alanine))
    figure = molecule(alanine, values, "charge", "e")
    assert figure.axes[1].get_ylabel() == "charge [e]"
    assert figure.axes[1].get_ylim() == (-2, 2)
    assert molecule(alanine, values + 1, "attention").axes[1].get_ylim() == (0, 3)


def test_strong_links_are_drawn_and_faint_ones_are_not(alanine):
    links = np.array([0, 0]), np.array([5, 6]), np.array([1.0, 0.01])
    assert len(molecule(alanine, edges=links).axes[0].lines) == 1 + len(molecule(alanine).axes[0].lines)


def test_atoms_are_named(alanine):
    assert sorted(text.get_text() for text in molecule(alanine).axes[0].texts) == ["C", "C", "C", "N", "O", "O"]
    assert len(molecule(alanine, numbered=True).axes[0].texts) == len(alanine)


def distances(pos):
    return np.linalg.norm(pos[:, None] - pos, axis=-1)
