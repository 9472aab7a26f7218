import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_stress

from molformer import units
from molformer.data.known_labels import _KNOWN, known_label, label_of_shape, shaped
from molformer.data.structure import Label
from molformer.errors import UnitError


@pytest.mark.parametrize(
    ("names", "kind", "unit"),
    [
        ("homo lumo gap", "intensive", "Ha"),
        ("mu", "intensive", "D"),
        ("A B C", "intensive", "GHz"),
        ("alpha", "extensive", "a0^3"),
        ("r2", "extensive", "a0^2"),
        ("zpve u0 u298 h298 g298 U0 eat_g4mp2", "extensive", "Ha"),
        ("energy E total_energy", "extensive", "eV"),
        ("cv Cv", "extensive", "cal/mol/K"),
        ("forces F", "forces", "eV/Å"),
        ("dipole", "vector", "D"),
        ("polarizability", "tensor", "a0^3"),
        ("charges", "charges", "e"),
        ("stress", "stress", "eV/Å^3"),
        ("velocities", "atom_vector", ""),
        ("displacements", "atom_vector", "Å"),
    ],
)
def test_well_known_names(names, kind, unit):
    for name in names.split():
        assert known_label(name) == Label(name, unit, kind)


def test_a_unit_that_is_given_counts():
    assert known_label("u0", "kcal/mol") == Label("u0", "kcal/mol", "extensive")
    assert known_label("Forces", "hartree/bohr") == Label("Forces", "Ha/a0", "forces")


def test_names_that_say_nothing():
    assert known_label("colour") is None
    assert known_label("a") is None
    assert known_label("f") is None
    assert known_label("A", "eV") is None  # a property in eV called A is no rotational constant
    with pytest.raises(UnitError, match="unknown unit 'furlong'"):
        known_label("gap", "furlong")


def test_every_name_is_listed_once_with_a_unit_that_is_known():
    names = [name for names in _KNOWN.values() for name in names.split()]
    assert len(names) == len(set(names))
    assert all(len(name) == 1 or name == name.lower() for name in names)
    for kind, unit in _KNOWN:
        assert units.canonical(unit) == unit
        assert Label("x", unit, kind).unit == unit


@pytest.mark.parametrize(
    ("name", "shape", "per_atom", "expected"),
    [
        ("mu", (), False, ("intensive", "D")),
        ("mu", (3,), False, ("vector", "")),
        ("alpha", (9,), False, ("tensor", "")),
        ("polarizability", (9,), False, ("tensor", "a0^3")),
        ("polarizability", (), False, ("intensive", "")),
        ("shift", (), True, ("atom", "")),
        ("charges", (), True, ("charges", "e")),
        ("forces", (3,), True, ("forces", "eV/Å")),
        ("velocities", (3,), True, ("atom_vector", "")),
        ("displacements", (3,), True, ("atom_vector", "Å")),
        ("stress", (3, 3), False, ("stress", "eV/Å^3")),
        ("stress", (9,), False, ("stress", "eV/Å^3")),
        ("stress", (6,), False, ("stress", "eV/Å^3")),
        ("stress", (3,), False, ("vector", "")),
        ("stress", (3, 3), True, None),
        ("alpha", (6,), False, None),
        ("beta", (27,), False, None),
    ],
)
def test_the_shape_decides_where_it_is_not_that_of_the_name(name, shape, per_atom, expected):
    label = label_of_shape(name, shape, per_atom)
    assert (label and (label.kind, label.unit)) == expected


def test_a_tensor_may_lie_flat_and_nothing_else_may():
    assert Label("t", "", "tensor").target_kind.fits((9,))
    assert not Label("v", "", "vector").target_kind.fits((9,))


def test_a_stress_may_be_six_numbers_as_in_ase():
    random = np.random.default_rng(0).normal(size=(4, 3, 3))
    stress = random + random.transpose(0, 2, 1)
    label = Label("stress", "GPa", "stress")
    voigt = np.array([full_3x3_to_voigt_6_stress(value) for value in stress])
    assert np.array_equal(shaped(label, voigt, (4,)), stress)
    assert np.array_equal(shaped(label, voigt[0]), stress[0])
    assert np.array_equal(shaped(label, stress.reshape(4, 9), (4,)), stress)
    assert np.array_equal(shaped(label, stress, (4,)), stress)
