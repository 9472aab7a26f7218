"""Geometries refined by the displacements of a model, and those that GFN2-xTB relaxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import molformer
from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.readers import Entry
from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.inference import Predictor
from molformer.inference.refinement import CONVERGED, LONGEST, refine, refined
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import aggregated
from molformer.inference.writers import open_writer
from molformer.models import Domain
from molformer.models.forward import Output
from molformer.so3 import random_rotation
from tests.helpers import moved, small_model

TARGETS = [Label("gap", "eV", "intensive"), Label("displacement", "Å", "atom_vector")]
DOMAIN = Domain((1, 6, 7, 8), 20, ("given", "mmff", "etkdg+mmff"))


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    model = moved(small_model(TARGETS, torch.float32))
    model.domain = DOMAIN
    return Predictor(model)


def leading_to(monkeypatch, reference, gain=1.0):
    """A model whose displacements lead to some positions; returns how many structures each pass has."""
    passes = []

    def run(model, structures, targets):
        passes.append(len(structures))
        return [
            Output({"displacement": gain * (reference - each.pos)}, np.zeros((len(each), 1))) for each in structures
        ]

    monkeypatch.setattr("molformer.inference.batches.run", run)
    return passes


def test_a_geometry_that_needs_no_displacement_is_a_fixed_point(predictor, monkeypatch):
    start = embed_smiles("CCO")
    passes = leading_to(monkeypatch, start.pos)
    (end,) = refine(predictor.runner, [start])
    assert np.array_equal(end.pos, start.pos)
    assert end.geometry == "etkdg+mmff+refined"
    assert passes == [1]


def test_steps_end_at_the_reference_and_only_what_still_moves_is_computed(predictor, monkeypatch):
    reference = embed_smiles("CCO").pos
    near, far = (replace(embed_smiles("CCO"), pos=reference + shift) for shift in (0.001, 0.1))
    passes = leading_to(monkeypatch, reference, gain=0.9)
    ends = refine(predictor.runner, [near, far])
    assert passes == [2, 1, 1]
    assert all(np.abs(end.pos - reference).max() < CONVERGED for end in ends)


def test_a_step_is_no_longer_than_allowed(predictor, monkeypatch):
    start = embed_smiles("CCO")
    leading_to(monkeypatch, start.pos + np.array([5.0, 0.0, 0.0]))
    (end,) = refine(predictor.runner, [start], steps=1)
    assert np.linalg.norm(end.pos - start.pos, axis=1) == pytest.approx(LONGEST)


def test_refined_geometries_turn_with_the_molecule(predictor):
    start = embed_smiles("CC(=O)N")
    rotation = random_rotation(torch.Generator().manual_seed(1)).numpy()
    turned = replace(start, pos=start.pos @ rotation.T + 2.0)
    ends = refine(predictor.runner, [start, turned])
    assert np.abs(ends[0].pos - start.pos).max() > 0.01
    assert ends[1].pos == pytest.approx(ends[0].pos @ rotation.T + 2.0, abs=1e-4)


def test_predictions_are_made_at_the_refined_geometry_of_every_conformer(predictor):
    row = predictor.predict("CCCO", geometry="refined", conformers=2)[0]
    starts = [
        replace(each, smiles="")
        for each in molformer.data.conformers.embed_smiles_all("CCCO", ConformerPolicy(num_conformers=2))
    ]
    ends = refine(predictor.runner, starts)
    assert row.structure.geometry == "etkdg+mmff+refined"
    assert row.structure.pos == pytest.approx(ends[0].pos, abs=1e-5)
    expected = np.mean([float(each["gap"]) for each in predictor.predict(ends)])
    assert float(row["gap"]) == pytest.approx(expected, abs=1e-5)
    assert set(row.values) == {"gap"}  # the displacement is no property of the molecule
    assert set(predictor.predict("CCCO", targets=["displacement"])[0].values) == {"displacement"}


def test_given_coordinates_and_failures_stay_and_the_order_too(predictor):
    given = replace(embed_smiles("CCO"), geometry="given")
    entries = [
        Entry("a", structure=given),
        Entry("b", error=ConfigError("no")),
        Entry("c", structure=embed_smiles("C")),
    ]
    ends = list(refined(predictor.runner, entries))
    assert [each.name for each in ends] == ["a", "b", "c"]
    assert ends[0].structure is given
    assert ends[1].error is entries[1].error
    assert ends[2].structure.geometry == "etkdg+mmff+refined"
    (again,) = refined(predictor.runner, [ends[2]])
    assert again.structure is ends[2].structure


def test_the_geometry_of_the_model_is_the_default_and_is_kept_in_its_folder(predictor, tmp_path):
    predictor.model.domain = replace(DOMAIN, geometry="refined", conformers=2)
    predictor.save_pretrained(tmp_path)
    loaded = Predictor.load(tmp_path, "cpu")
    row = loaded.predict("CCO")[0]
    assert row.structure.geometry == "etkdg+mmff+refined"
    assert row["gap"].conformer_std is not None
    assert loaded.predict("CCO", geometry="etkdg")[0].structure.geometry == "etkdg+mmff"


def test_a_model_without_displacements_says_what_would_work(folder):
    predictor = molformer.load(folder)
    with pytest.raises(ConfigError, match=r"a target displacement=atom_vector,Å; .* choose geometry etkdg or xtb"):
        predictor.predict("CCO", geometry="refined")
    with pytest.raises(ConfigError, match="'best' is not one of etkdg, refined, xtb"):
        predictor.predict("CCO", geometry="best")
    other = Predictor(small_model([Label("displacement", "", "atom_vector")], torch.float32))  # of a cloud of points
    with pytest.raises(ConfigError, match="refined needs"):
        other.predict("CCO", geometry="refined")


def test_gfn2_needs_tblite(predictor, monkeypatch):
    monkeypatch.setattr("molformer.data.gfn2.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs tblite: pip install 'molformer\[xtb\]', or choose geometry etkdg"):
        predictor.predict("CCO", geometry="xtb")


def test_gfn2_relaxes_and_a_model_that_has_not_seen_such_geometries_says_so(predictor):
    pytest.importorskip("tblite")
    row = predictor.predict("O", geometry="xtb")[0]
    assert row.structure.geometry == "etkdg+mmff+gfn2"
    assert row.status == "out_of_domain"
    assert "relaxed by GFN2-xTB, and the model was trained with geometries of given, mmff, etkdg+mmff" in row.message
    lengths = np.linalg.norm(row.structure.pos[1:] - row.structure.pos[0], axis=1)
    assert lengths == pytest.approx(0.959, abs=0.005)  # of GFN2-xTB; of MMFF94 0.969
    predictor.model.domain = replace(DOMAIN, geometries=("given", "gfn2"))
    assert predictor.predict(row.structure)[0].status == "ok"


def test_files_hold_the_refined_geometry(predictor, tmp_path):
    from rdkit import Chem

    rows = predictor.predict("CC=O", geometry="refined")
    with open_writer(tmp_path / "out.sdf", predictor.layout(PredictionRequest.of(predictor.targets))) as writer:
        writer.write(rows[0])
    (mol,) = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert mol.GetConformer().GetPositions() == pytest.approx(rows[0].structure.pos, abs=1e-4)
    assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == "CC=O"


def test_the_spread_over_conformers_widens_the_interval_as_the_root_of_the_sum_of_squares():
    gap = Label("gap", "eV", "intensive")
    values = np.array([[1.0, 1.3, 1.6]])
    one, several = (aggregated(gap, values[:, :count], 0.4) for count in (1, 3))
    assert one.interval == pytest.approx((0.6, 1.4))
    assert several.interval == pytest.approx((1.3 - 0.5, 1.3 + 0.5))  # 0.3 over conformers
    assert float(aggregated(gap, values[:, ::-1], 0.4).value) == pytest.approx(1.3)  # in any order
