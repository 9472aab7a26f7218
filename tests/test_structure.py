from dataclasses import replace

import numpy as np
import pytest

from molformer.data.structure import Label, Structure
from molformer.errors import InputError, UnitError
from tests.helpers import random_structure


@pytest.mark.parametrize(
    ("numbers", "pos", "message"),
    [
        ([1, 1], [[0, 0, 0]], "do not describe one molecule"),
        ([], [], "do not describe one molecule"),
        ([1], [[0, float("nan"), 0]], "position of atom 1 is not a finite number"),
        ([200], [[0, 0, 0]], "between 0 and 118"),
    ],
)
def test_what_is_no_molecule_is_refused(numbers, pos, message):
    with pytest.raises(InputError, match=message):
        Structure(numbers, pos)


def test_no_atoms_is_an_error_that_says_where():
    import numpy as np

    with pytest.raises(InputError, match="row 3: the molecule has no atoms"):
        Structure(np.empty(0), np.empty((0, 3)), name="row 3")


def test_labels_know_their_shape_and_unit():
    assert Label("dipole", "Debye", "vector").unit == "D"
    assert Label("forces", "eV/Å", "forces").shape == (3,)
    assert Label("charges", "e", "charges").per_node
    with pytest.raises(InputError, match="kind 'spin' is not one of"):
        Label("x", "", "spin")
    with pytest.raises(UnitError):
        Label("x", "furlong", "intensive")


def test_annotations_change_and_nothing_else():
    before = Structure([8, 1], [[0, 0, 0], [0.96, 0, 0]], name="OH", group=3, labels={"gap": 1.0})
    after = before.annotated(name="hydroxyl", labels={"gap": 2})
    assert (after.name, after.group, after.labels["gap"].dtype, float(after.labels["gap"])) == ("hydroxyl", 3, float, 2)
    assert after.pos is before.pos
    assert (before.name, float(before.labels["gap"])) == ("OH", 1.0)
    assert before.annotated(labels={}).labels == {}


@pytest.mark.parametrize("cell", [(1e100,) * 3, (0.01, 1e5, 1e5), (1e-6, 1e3, 1e3), (0.4, 5, 5), (2e4, 5, 5)])
def test_a_cell_that_no_crystal_has_is_refused(cell):
    with pytest.raises(InputError, match=r"row 3: .*(not plausible|three independent)"):
        Structure([1], [[0, 0, 0]], cell=np.diag(cell), name="row 3")


def test_a_direction_that_is_not_periodic_may_be_as_thin_as_it_likes():
    assert Structure([1], [[0, 0, 0]], cell=np.diag([5, 5, 0.1]), pbc=(True, True, False)).cell is not None


def test_atoms_too_far_apart_are_refused_and_points_are_not():
    with pytest.raises(InputError, match="extend over 2e"):
        Structure([1, 1], [[0, 0, 0], [2e4, 0, 0]])
    assert len(Structure([0, 0], [[0, 0, 0], [2e4, 0, 0]])) == 2


@pytest.mark.parametrize("cell", [None, 9 * np.eye(3)])
def test_far_from_the_origin_is_moved_to_it_in_double_precision(cell):
    near = random_structure(6, cell=cell)
    far = replace(near, pos=near.pos + np.array([1e8, -1e8, 3e7]))
    moved = far.near_origin()
    assert np.abs(moved).max() < 100
    assert np.allclose(moved - moved[0], near.pos - near.pos[0], atol=1e-7)
    assert near.near_origin() is near.pos
