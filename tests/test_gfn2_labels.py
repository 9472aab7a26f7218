"""The recipe of GFN2-xTB labels, on a handful of molecules."""

import csv
import gzip
import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tblite")

from data.label_molecules import label
from molformer.data.conformers import embed_smiles
from molformer.data.store import StructureStore
from recipes import gfn2_labels
from recipes.gfn2_labels import about_centre

RNG = random.Random(0)


@pytest.fixture
def lists(tmp_path):
    """Two packed lists: small chains, and some of what is drawn with care."""
    rows = {
        "plain": ["C" * n + "O" for n in range(1, 13)],
        "diverse": ["C[N+](C)(C)C.[Cl-]", "C[Si](C)(C)C", "[Cu]", "[CH3]", "C" * 60, "C1CC", "CCBr", "CS", "CCI", "CF"],
    }
    for name, smiles in rows.items():
        with gzip.open(tmp_path / f"{name}_smiles.csv.gz", "wt") as file:
            file.write("\n".join(["smiles", *smiles]))
    return [tmp_path / f"{name}_smiles.csv.gz" for name in rows]


@pytest.mark.parametrize("smiles", ["[Cu]", "[CH3]", "C" * 60, "[O-]C(=O)C(C(=O)[O-])C(=O)[O-]"])
def test_what_is_out_of_the_domain_is_not_drawn(smiles):
    assert gfn2_labels.prepared(smiles, RNG, max_atoms=50) is None


def test_salts_give_their_largest_part_and_ions_are_drawn_more_often():
    assert gfn2_labels.prepared("C[N+](C)(C)C.[Cl-]", RNG, 50) == ("C[N+](C)(C)C", True)
    assert gfn2_labels.prepared("C[Se]C", RNG, 50) == ("C[Se]C", True)
    assert gfn2_labels.prepared("CC", RNG, 50) == ("CC", False)


@pytest.mark.parametrize(
    ("smiles", "ions"),
    [
        ("CC(=O)O", {"CC(=O)[O-]"}),
        ("CN", {"C[NH3+]"}),
        ("CN(C)C", {"C[NH+](C)C"}),
        ("NCC(=O)O", {"NCC(=O)[O-]", "[NH3+]CC(=O)O"}),
        ("CNC(C)=O", {"CNC(C)=O"}),  # an amide is no base
        ("Nc1ccccc1", {"Nc1ccccc1"}),
        ("CO", {"CO"}),
    ],
)
def test_acids_and_amines_are_ionised(smiles, ions, monkeypatch):
    monkeypatch.setattr(gfn2_labels, "IONISED", 1.0)
    rng = random.Random(1)
    assert {gfn2_labels.prepared(smiles, rng, 50)[0] for _ in range(20)} == ions


def test_the_lists_take_turns_and_no_molecule_comes_twice(lists):
    molecules = gfn2_labels.draw_all([*lists, lists[0]], 18, seed=7, max_atoms=50)
    smiles = [molecule.smiles for molecule in molecules]
    assert len(set(smiles)) == len(smiles)
    assert [molecule.index for molecule in molecules] == list(range(len(molecules)))
    assert [molecule.name.split()[0] for molecule in molecules[:4]] == ["plain_smiles", "diverse_smiles"] * 2
    assert molecules == gfn2_labels.draw_all([*lists, lists[0]], 18, seed=7, max_atoms=50)


def test_a_run_that_is_ended_goes_on_and_gives_the_same_store(lists, tmp_path, monkeypatch):
    monkeypatch.setattr(gfn2_labels, "PART", 4)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    settings = {"count": 12, "max_atoms": 50, "seed": 7}
    gfn2_labels.main(lists, whole, minutes=1e9, **settings)
    labelled = gfn2_labels.label_part
    done = []

    def twice(path, molecules):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(path)
        return labelled(path, molecules)

    monkeypatch.setattr(gfn2_labels, "label_part", twice)
    with pytest.raises(KeyboardInterrupt):
        gfn2_labels.main(lists, halves, minutes=1e9, **settings)
    monkeypatch.setattr(gfn2_labels, "label_part", labelled)
    gfn2_labels.main(lists, halves, minutes=1e9, **settings)
    one, other = (StructureStore(folder / "gfn2") for folder in (whole, halves))
    assert one.manifest["sha256"] == other.manifest["sha256"]
    assert len(one) == 12
    ion = next(structure for structure in one if structure.smiles == "C[N+](C)(C)C")
    assert ion.charge == 1
    assert ion.labels["gfn2_charges"].sum() == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(ion.labels["gfn2_dipole"]) < 0.2  # about the mean position of the atoms: a symmetric ion
    assert np.isfinite([structure.labels["gfn2_atomization_energy"] for structure in one]).all()


def test_the_dipole_of_an_ion_does_not_depend_on_its_place():
    ion = embed_smiles("CC(=O)[O-]")
    dipoles = [about_centre(label(replace(ion, pos=ion.pos + shift))).labels["dipole"] for shift in (0, [5, 3, 1])]
    assert np.linalg.norm(dipoles[0]) > 1
    assert dipoles[0] == pytest.approx(dipoles[1], abs=1e-3)


def test_failures_are_listed_by_reason(lists, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gfn2_labels, "MAX_FORCE", 0.0)
    gfn2_labels.main(lists[:1], tmp_path / "out", count=3, max_atoms=50, seed=7, minutes=1e9)
    assert "3 failed" in capsys.readouterr().out
    with open(tmp_path / "out" / "failed.csv", newline="") as file:
        assert {row["stage"] for row in csv.DictReader(file)} == {"excluded"}
