import numpy as np

from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.data.summary import describe, describe_labels, histogram
from tests.helpers import random_structure

LABELS = [
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("class", "", "category", ("chair", "table")),
]


def test_counts_and_missing_labels(tmp_path):
    members = [
        random_structure(3, charge=1, labels={"gap": 1.0, "dipole": [3.0, 0.0, 4.0], "class": 1}),
        random_structure(5, spin=2, labels={"gap": np.nan, "dipole": [0.0, 0.0, 5.0], "class": 1}),
    ]
    store = write_store(tmp_path / "set", members, LABELS, source="made here")
    facts = dict(describe(store))
    assert facts["structures"] == "2, with 8 atoms: 3 to 5, mean 4.0"
    assert facts["charged, open-shell"] == "1, 1"
    assert facts["source"] == "made here"
    gap, dipole, kinds = describe_labels(store)
    assert gap[:6] == ["gap", "eV", "intensive", "1", "1", "1"]
    assert [*dipole[3:6], dipole[7]] == ["0", "5", "5", "5"]
    assert kinds[-2] == "chair 0, table 2"


def test_histogram_has_a_bar_for_each_bin():
    assert histogram(np.arange(100), bins=10) == "█" * 10
    assert histogram(np.array([0, 0, 0, 9]), bins=3) == "█ ▃"
