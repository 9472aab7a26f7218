import pytest

from molformer.errors import UnitError
from molformer.units import canonical, dimension, factor


@pytest.mark.parametrize(
    ("source", "target", "value"),
    [
        ("Ha", "eV", 27.211386),
        ("kcal/mol", "eV", 0.0433641),
        ("kJ/mol", "kcal/mol", 0.2390057),
        ("a0", "Å", 0.5291772),
        ("e·Å", "D", 4.8032047),
        ("e*bohr", "Debye", 2.5417464),
        ("Ha/Bohr", "eV/Å", 51.422067),
        ("a0^3", "Å³", 0.1481847),
        ("eV/Å³", "GPa", 160.21766),
        ("GPa", "kbar", 10.0),
        ("Ha/Bohr^3", "GPa", 29421.016),
        ("eV/Ang**3", "Pa", 1.6021766e11),
        ("m/s", "nm/ps", 1e-3),
        ("cm^-1", "meV", 0.12398420),
    ],
)
def test_factors_of_the_literature(source, target, value):
    assert factor(source, target) == pytest.approx(value, rel=1e-6)
    assert factor(target, source) == pytest.approx(1 / value, rel=1e-6)


def test_different_quantities_are_not_converted():
    with pytest.raises(UnitError, match="choose a unit of energy"):
        factor("eV", "D")


def test_an_unknown_unit_is_named_with_the_known_ones():
    with pytest.raises(UnitError, match="unknown unit 'parsec'; known units: 1, eV"):
        canonical("parsec")


def test_every_unit_has_a_dimension():
    assert dimension("hartree") == "energy"
