import pytest

from molformer.data.labels import parse_targets, split_target, with_kinds
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


def test_labels_of_a_store_are_read_out_by_another_kind():
    labels = {"mu": Label("mu", "D", "intensive"), "y": Label("y", "", "intensive"), "v": Label("v", "D", "vector")}
    found = with_kinds(labels, ["mu=vector_length", "y=extensive,eV", "v", "v=vector,D"])
    assert [found[name].kind for name in labels] == ["vector_length", "extensive", "vector"]
    assert [found[name].unit for name in labels] == ["D", "eV", "D"]
    assert labels["mu"].kind == "intensive"
    for text in ("v=intensive", "mu=intensive,e·Å", "mu=binary", "mu=vector"):
        with pytest.raises(InputError, match=r"in 'D' in the store, which cannot be taken as"):
            with_kinds(labels, [text])
