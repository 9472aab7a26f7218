import json

import numpy as np
import pytest

from molformer.data.splits import PARTS, SplitPolicy, make_split, random_split, scaffold, write_split
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError
from tests.helpers import random_structure

SMILES = ["CCO", "CCN", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "c1ccncc1", "C1CCCC1", "CC1CCCC1", "c1ccsc1", "CC"] * 3


@pytest.fixture
def store(tmp_path):
    labels = [Label("active", "", "binary"), Label("gap", "eV", "intensive")]
    members = [
        random_structure(3, seed=row, smiles=smiles, group=row // 2, labels={"active": row % 10 == 0, "gap": row})
        for row, smiles in enumerate(SMILES)
    ]
    return write_store(tmp_path / "set", members, labels)


def parts(split):
    return [getattr(split, part) for part in PARTS]


@pytest.mark.parametrize(
    "policy",
    [
        SplitPolicy(),
        SplitPolicy("scaffold", (0.6, 0.2, 0.2)),
        SplitPolicy("stratified", label="gap"),
        SplitPolicy("stratified", label="active", folds=5, fold=3),
        SplitPolicy(folds=3, fold=0),
    ],
)
def test_every_structure_is_in_one_part_and_groups_stay_together(store, policy):
    split = make_split(store, policy)
    assert sorted(np.concatenate(parts(split))) == list(range(len(store)))
    assert sum(len(set(store.groups[part])) for part in parts(split)) == len(set(store.groups))


def test_a_seed_gives_the_same_split_everywhere():
    split = random_split(np.arange(12), (0.5, 0.25, 0.25), seed=3)
    assert split.test.tolist() == [3, 5, 8]
    assert random_split(np.arange(12), (0.5, 0.25, 0.25), seed=4).test.tolist() != split.test.tolist()


def test_a_scaffold_is_never_on_both_sides(tmp_path):
    members = [random_structure(3, seed=row, smiles=smiles) for row, smiles in enumerate(SMILES)]
    split = make_split(write_store(tmp_path / "set", members), SplitPolicy("scaffold", (0.6, 0.2, 0.2)))
    families = [{scaffold(SMILES[index]) for index in part} for part in parts(split)]
    assert sum(map(len, families)) == len(set().union(*families))
    assert "c1ccccc1" in families[0]


def test_scaffold_needs_smiles(tmp_path):
    store = write_store(tmp_path / "set", [random_structure(3) for _ in range(9)])
    with pytest.raises(ConfigError, match="has no SMILES"):
        make_split(store, SplitPolicy("scaffold"))


def test_strata_have_the_same_shares_in_every_part():
    strata = np.array([0] * 20 + [1] * 80)
    split = random_split(np.arange(100), (0.8, 0.1, 0.1), seed=0, strata=strata)
    assert [int((strata[part] == 0).sum()) for part in parts(split)] == [16, 2, 2]


def test_folds_are_the_test_parts_of_one_order():
    tests = [random_split(np.arange(17), (0.8, 0.2, 0.0), 0, None, 4, fold).test for fold in range(4)]
    assert sorted(np.concatenate(tests)) == list(range(17))


def test_a_written_split_is_read_again(store, tmp_path):
    split = make_split(store, SplitPolicy(seed=5))
    write_split(split, tmp_path / "split.json")
    again = make_split(store, SplitPolicy("file", file=str(tmp_path / "split.json")))
    assert all(np.array_equal(a, b) for a, b in zip(parts(split), parts(again), strict=True))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not a split"),
        ({"train": [0], "val": [1]}, "is not a split"),
        ({"train": [0, 1], "val": [1], "test": [2]}, "more than one part"),
        ({"train": [0], "val": [1], "test": [99]}, "names row 99 of a store of 30"),
        ({"train": [], "val": [0], "test": [1]}, "training part of 2 structures would be empty"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(store, tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        make_split(store, SplitPolicy("file", file=str(path)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fractions": (0.5, 0.5)}, "three fractions that add up to 1"),
        ({"fractions": (1.2, -0.1, -0.1)}, "three fractions that add up to 1"),
        ({"method": "magic"}, "is not one of auto, random, scaffold"),
        ({"method": "file"}, "needs a file"),
        ({"method": "stratified"}, "needs a label"),
        ({"folds": 3, "fold": 3}, "fold 3 of 3 does not exist"),
    ],
)
def test_policies_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SplitPolicy(**values)


def test_an_empty_part_is_refused_unless_it_is_meant():
    with pytest.raises(ConfigError, match="test part of 3 structures would be empty"):
        random_split(np.arange(3), (0.6, 0.3, 0.1), seed=0)
    with pytest.raises(ConfigError, match="training part of 3 structures would be empty"):
        random_split(np.arange(3), (0.0, 0.5, 0.5), seed=0)
    with pytest.raises(ConfigError, match="test part of 2 structures would be empty"):
        random_split(np.arange(2), (1.0, 0.0, 0.0), seed=0, folds=3, fold=2)


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        (SplitPolicy(fractions=(1, 0, 0)), (30, 0, 0)),
        (SplitPolicy(fractions=(0.8, 0, 0.2)), (24, 0, 6)),
        (SplitPolicy("scaffold", (1.0, 0.0, 0.0)), (30, 0, 0)),
        (SplitPolicy("stratified", (0.8, 0.2, 0.0), label="gap"), (24, 6, 0)),
        (SplitPolicy(fractions=(10, 5, 0)), (20, 10, 0)),
    ],
)
def test_a_part_of_no_share_is_empty_and_can_be_written_and_read(store, tmp_path, policy, sizes):
    split = make_split(store, policy)
    assert tuple(map(len, parts(split))) == sizes
    write_split(split, tmp_path / "split.json")
    again = make_split(store, SplitPolicy("file", file=str(tmp_path / "split.json")))
    assert again.to_dict() == split.to_dict()


def test_a_scaffold_has_no_atom_maps_and_isotopes():
    assert scaffold("[CH3:7][c:1]1[cH:2][cH:3][cH:4][cH:5][cH:6]1") == scaffold("C[13c]1ccccc1") == "c1ccccc1"
    assert scaffold("no SMILES") == scaffold("") == ""


def test_stratify_by_a_number_of_the_structure_only(tmp_path):
    store = write_store(tmp_path / "set", [random_structure(3)] * 9, [Label("forces", "eV/Å", "forces")])
    with pytest.raises(ConfigError, match="stratify by a number or class"):
        make_split(store, SplitPolicy("stratified", label="forces"))


def test_numbers_of_structures_instead_of_fractions():
    split = random_split(np.arange(100), (60, 10, 5), seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (60, 10, 5)
    assert len(set(np.concatenate([split.train, split.val, split.test]))) == 75
    with pytest.raises(ConfigError, match="90 \\+ 10 \\+ 5 of 100 structures: too many"):
        random_split(np.arange(100), (90, 10, 5), seed=0)
    with pytest.raises(ConfigError, match="takes fractions"):
        SplitPolicy("scaffold", (60, 10, 5))
    with pytest.raises(ConfigError, match="or three numbers of structures"):
        SplitPolicy(fractions=(0.5, 10, 5))


RINGS = [f"C{'C' * n}c1ccccc1" for n in range(6)] + [f"{'C' * n}C1CC{'C' * m}C1" for n in range(2) for m in range(7)]


def table(tmp_path, smiles, geometry="etkdg"):
    members = [random_structure(3, seed=row, smiles=text, geometry=geometry) for row, text in enumerate(smiles)]
    return write_store(tmp_path / "table", members)


@pytest.mark.parametrize(
    ("smiles", "geometry", "policy", "method"),
    [
        (RINGS, "etkdg", {}, "scaffold"),
        (["C" * n for n in range(1, 21)], "etkdg", {}, "scaffold"),  # without rings: each by itself
        ([f"C{'C' * n}c1ccccc1" for n in range(20)], "etkdg", {}, "random"),  # one scaffold
        (RINGS, "given", {}, "random"),
        ([""] * 20, "etkdg", {}, "random"),
        (RINGS, "etkdg", {"folds": 4}, "random"),
        (RINGS, "etkdg", {"fractions": (10, 5, 5)}, "random"),
    ],
)
def test_molecules_given_as_smiles_are_split_by_scaffold_where_that_is_possible(
    tmp_path, smiles, geometry, policy, method
):
    split = make_split(table(tmp_path, smiles, geometry), SplitPolicy("auto", **policy))
    assert split.method == method
    assert len(split.test) in (2, 5)
    assert sorted(np.concatenate(parts(split)).tolist()) == list(range(len(smiles)))


def test_auto_takes_what_other_settings_ask_for(store, tmp_path):
    assert make_split(store, SplitPolicy("auto", label="gap")).method == "stratified"
    write_split(make_split(store, SplitPolicy()), tmp_path / "split.json")
    assert make_split(store, SplitPolicy("auto", file=str(tmp_path / "split.json"))).method == "file"


def test_the_largest_scaffold_is_in_training_even_if_it_is_too_large(tmp_path):
    smiles = [*(f"C{'C' * n}c1ccccc1" for n in range(18)), "C1CC1", "C1CCC1"]
    split = make_split(table(tmp_path, smiles), SplitPolicy("scaffold", (0.8, 0.05, 0.15)))
    assert split.train.tolist() == list(range(18))


def test_molecules_without_a_smiles_are_no_family(tmp_path):
    split = make_split(table(tmp_path, ["", "", "", "", "", *RINGS[:6]]), SplitPolicy("scaffold", (0.6, 0.2, 0.2)))
    assert {*range(6, 11)} <= {*split.train.tolist()}
    assert {*split.test.tolist()} < {*range(5)}
