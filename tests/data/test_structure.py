import pytest

from molformer.data.structure import Label, Structure
from molformer.errors import InputError, UnitError


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
