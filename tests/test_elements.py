import pytest

from molformer.elements import MAX_NUMBER, SYMBOLS, formula, number_of
from molformer.errors import InputError


def test_numbers_are_those_of_ase():
    from ase.data import chemical_symbols

    assert chemical_symbols == SYMBOLS
    assert MAX_NUMBER == 118
    assert [number_of(symbol) for symbol in SYMBOLS] == list(range(119))


def test_what_is_no_symbol_is_refused():
    with pytest.raises(InputError, match="'Qq' is not a chemical symbol"):
        number_of("Qq")


def test_hill_order():
    assert formula([1, 1, 8]) == "H2O"
    assert formula([17, 6, 1, 6, 35]) == "C2HBrCl"
