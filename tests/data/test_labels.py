import pytest

from molformer.data.labels import parse_targets, split_target
from molformer.data.structure import Label
from molformer.errors import InputError


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("smiles,K=5,toxic,gap (eV)\nC,1,0,1.5\nCC,2,1,2\nCCC,2.5,2,3\n")
    return path


def test_a_name_may_have_an_equals_sign(table):
    assert split_target("pKa=7=intensive") == ("pKa=7", "intensive", "")
    assert parse_targets(["K=5", "gap", "K=5"], [table]) == (
        Label("K=5", "", "intensive"),
        Label("gap", "eV", "intensive"),
    )
    assert parse_targets(["K=5=extensive,eV"], [table]) == (Label("K=5", "eV", "extensive"),)


def test_classes_are_looked_up_in_a_table(table, tmp_path):
    assert parse_targets(["toxic=category"], [table]) == (Label("toxic", "", "category", ("0", "1", "2")),)
    with pytest.raises(InputError, match="the classes of a label are looked up in a table alone"):
        parse_targets(["toxic=category"], [tmp_path / "set.xyz"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpa", "has no column 'gpa'; did you mean 'gap .eV.'"),
        ("toxic=categry", "has no column 'toxic=categry'; .* a kind, after =, is intensive, extensive"),
    ],
)
def test_what_is_misspelt_names_what_is_near(table, text, message):
    with pytest.raises(InputError, match=message):
        parse_targets([text], [table])


def test_a_kind_that_is_none_and_a_name_that_is_unknown(tmp_path):
    with pytest.raises(InputError, match="'intensiv' is not a kind of label; use intensive"):
        parse_targets(["gap=intensiv"])
    with pytest.raises(InputError, match="'colour' is not a well-known property"):
        parse_targets(["colour"], [tmp_path / "set.xyz"])
