from dataclasses import replace

import numpy as np
import pytest
import torch

import molformer
from molformer.data.conformers import ConformerPolicy, embed_smiles, embed_smiles_all
from molformer.data.readers import Entry
from molformer.data.structure import Label
from molformer.errors import ConfigError, ConformerError, InputError, ModelError, UnitError, UnsupportedElementError
from molformer.inference import Predictor
from molformer.models import Domain, PropertyModel
from tests.helpers import random_structure, small_model
from tests.inference.conftest import TARGETS


def test_one_row_for_each_input_in_order_whatever_fails(folder, tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    inputs = ["CCO", "nonsense", tmp_path / "water.xyz", "CBr", "C1#CC1", "CCO"]
    rows = molformer.load(folder).predict(inputs)
    statuses = ["ok", "invalid_input", "ok", "unsupported_element", "embedding_failed", "ok"]
    assert [row.status for row in rows] == statuses
    assert all(bool(row.message) == (row.status != "ok") for row in rows)
    assert rows[0]["gap"].unit == "eV"
    assert rows[2]["charges"].value.shape == (3,)
    assert float(rows[0]["gap"]) == pytest.approx(float(rows[5]["gap"]), abs=1e-5)


def test_representations_are_short_and_say_what_failed(folder):
    predictor = molformer.load(folder)
    rows = predictor.predict(["CCO", "nonsense"])
    first, ethanol, nonsense = repr(rows).splitlines()
    assert first == "Predictions(1 ok, 1 invalid_input)"
    assert ethanol.startswith(f"  Prediction(CCO: gap {rows[0]['gap']}")
    assert len(ethanol) < 120
    assert nonsense == f"  Prediction(nonsense: invalid_input, {rows[1].message})"
    assert repr(rows[0].structure) == "Structure(C2H6O, CCO, etkdg+mmff)"
    assert repr(rows[0].structure.molecular_graph) == "MolecularGraph(9 atoms, 8 bonds)"
    assert repr(predictor) == f"Predictor({', '.join(target.name for target in TARGETS)})"


def test_every_door_gives_the_same_number(folder, tmp_path):
    structure = embed_smiles("CCO")
    lines = [
        f"{molformer.elements.SYMBOLS[number]} {' '.join(map(repr, map(float, pos)))}"
        for number, pos in zip(structure.numbers, structure.pos, strict=True)
    ]
    (tmp_path / "ethanol.xyz").write_text(f"{len(lines)}\n\n" + "\n".join(lines) + "\n")
    (tmp_path / "ethanol.smi").write_text("OCC ethanol\n")
    predictor = molformer.load(folder)
    values = [
        float(row["gap"])
        for row in predictor.predict(["CCO", structure, tmp_path / "ethanol.xyz", str(tmp_path / "ethanol.smi")])
    ]
    assert np.ptp(values) < 1e-5


def test_objects_of_rdkit_and_ase_are_inputs_too(folder):
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    structure = embed_smiles("CCO")
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == structure.numbers.tolist()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for index, place in enumerate(structure.pos.tolist()):
        conformer.SetAtomPosition(index, Point3D(*place))
    mol.AddConformer(conformer)
    atoms = Atoms(structure.numbers, structure.pos)
    predictor = molformer.load(folder)
    rows = predictor.predict([mol, atoms]) + predictor.predict(mol) + predictor.predict(atoms)
    assert [row.status for row in rows] == ["ok"] * 4
    assert np.ptp([float(row["gap"]) for row in rows]) < 1e-4


def test_a_periodic_structure_is_not_taken_for_a_molecule(folder):
    alone = embed_smiles("O")
    crystal = replace(alone, cell=3.5 * np.eye(3))
    first, second = molformer.load(folder).predict([alone, crystal])
    assert abs(float(first["gap"]) - float(second["gap"])) > 1e-4


def test_batches_do_not_change_the_numbers(folder):
    smiles = ["C", "CC", "CCC", "CO", "N"]
    one_by_one = Predictor(PropertyModel.load(folder), batch_size=1).predict(smiles)
    together = Predictor(PropertyModel.load(folder), batch_size=5).predict(smiles)
    assert np.allclose([float(row["gap"]) for row in one_by_one], [float(row["gap"]) for row in together], atol=1e-5)


def test_turning_the_molecule_turns_the_vector(folder):
    structure = embed_smiles("CCO")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    first, second = molformer.load(folder).predict([structure, replace(structure, pos=structure.pos @ turn.T)])
    assert np.allclose(first["dipole"].value @ turn.T, second["dipole"].value, atol=1e-4)
    assert float(first["gap"]) == pytest.approx(float(second["gap"]), abs=1e-5)


def test_strict_raises_at_the_first_failure(folder):
    predictor = molformer.load(folder)
    with pytest.raises(InputError, match="'nonsense' is not a SMILES"):
        predictor.predict(["CCO", "nonsense"], strict=True)
    with pytest.raises(UnsupportedElementError, match="has not seen Br in training; it knows H, C, N, O"):
        predictor.predict("CBr", strict=True)
    with pytest.raises(ConformerError):
        predictor.predict("C1#CC1", strict=True)


def test_a_unit_converts_what_it_measures_and_nothing_else(folder):
    predictor = molformer.load(folder)
    plain = predictor.predict("CCO")
    converted = predictor.predict("CCO", unit="kcal/mol")
    assert float(converted["gap"]) == pytest.approx(23.0605 * float(plain["gap"]), rel=1e-4)
    assert converted["gap"].unit == "kcal/mol"
    assert np.array_equal(converted["dipole"].value, plain["dipole"].value)
    named = predictor.predict("CCO", targets=["dipole"], unit={"dipole": "e·Å"})
    assert np.allclose(named["dipole"].value * 4.80320, plain["dipole"].value, rtol=1e-4)
    assert set(named[0].values) == {"dipole"}


def test_a_wrong_kind_of_unit_is_an_error(folder):
    predictor = molformer.load(folder)
    with pytest.raises(UnitError, match="cannot convert 'eV'"):
        predictor.predict("CCO", unit={"gap": "D"})
    with pytest.raises(UnitError, match="'kcal/mol' measures energy, and no target does: dipole"):
        predictor.predict("CCO", targets=["dipole"], unit="kcal/mol")
    with pytest.raises(ConfigError, match="no target 'homo'; the model predicts gap, dipole, charges"):
        predictor.predict("CCO", targets=["homo"])


def test_conformers_are_averaged_and_their_spread_is_named(folder):
    predictor = molformer.load(folder)
    structures = embed_smiles_all("CCCO", ConformerPolicy(num_conformers=4))
    alone = predictor.predict(structures)
    row = predictor.predict("CCCO", conformers=4)[0]
    gaps = np.array([float(one["gap"]) for one in alone])
    assert np.ptp(gaps) > 0
    assert float(row["gap"]) == pytest.approx(gaps.mean(), abs=1e-5)
    assert float(row["gap"].conformer_std) == pytest.approx(gaps.std(ddof=1), abs=1e-5)
    assert row["gap"].ensemble_std is None
    lengths = [np.linalg.norm(one["dipole"].value) for one in alone]
    assert np.allclose(row["dipole"].value, alone[0]["dipole"].value, atol=1e-4)
    assert float(row["dipole"].conformer_std) == pytest.approx(np.std(lengths, ddof=1), abs=1e-4)
    assert row["charges"].conformer_std.shape == (12,)
    assert np.allclose(row.structure.pos, structures[0].pos)


def test_conformers_of_worker_processes_are_the_same(folder):
    predictor = molformer.load(folder)
    here, there = (predictor.predict(["CCCO", "nonsense", "CCN"], conformers=3, processes=n) for n in (0, 2))
    assert [row.status for row in there] == ["ok", "invalid_input", "ok"]
    assert [float(here[i]["gap"].std) for i in (0, 2)] == pytest.approx([float(there[i]["gap"].std) for i in (0, 2)])


def test_an_ensemble_is_the_mean_of_its_members_and_says_how_they_differ(members):
    values = np.array([float(molformer.load(folder).predict("CCO")["gap"]) for folder in members])
    value = molformer.load(members).predict("CCO")["gap"]
    assert float(value) == pytest.approx(values.mean(), abs=1e-5)
    assert float(value.ensemble_std) == pytest.approx(values.std(ddof=1), abs=1e-5)
    assert value.conformer_std is None
    assert "±" in repr(value)


def test_the_models_of_an_ensemble_predict_the_same(folder):
    other = small_model([Label("gap", "Ha", "intensive")], dtype=torch.float32)
    with pytest.raises(ModelError, match="must predict the same"):
        Predictor([Predictor.load(folder).model, other])


def test_what_does_not_fit_into_memory_is_refused_and_the_rest_is_not(folder):
    predictor = Predictor(PropertyModel.load(folder), memory=0.002)
    large = random_structure(30, spread=2.0)
    rows = predictor.predict(["C", large, "CC"])
    assert [row.status for row in rows] == ["ok", "too_large", "ok"]
    assert "30 atoms" in rows[1].message
    assert "raise the memory" in rows[1].message


def test_batches_are_bounded_by_edges(folder, monkeypatch):
    import molformer.inference.batches as batches

    predictor = Predictor(PropertyModel.load(folder), memory=0.002)
    edges = []

    def seen(model, structures, targets):
        edges.append(sum(len(one) * (len(one) - 1) for one in structures))
        return run(model, structures, targets)

    run = batches.run
    monkeypatch.setattr(batches, "run", seen)
    rows = predictor.predict(["CCC"] * 40, processes=0)
    assert [row.status for row in rows] == ["ok"] * 40
    assert len(edges) > 1
    assert max(edges) <= predictor.runner.most_edges < 2 * max(edges)


def test_a_single_row_gives_its_values_and_several_do_not(folder):
    predictor = molformer.load(folder)
    assert float(predictor.predict("CCO")["gap"]) == float(predictor.predict(["CCO"])[0]["gap"])
    with pytest.raises(InputError, match="there are 2 rows: choose one first"):
        predictor.predict(["CCO", "C"])["gap"]
    with pytest.raises(InputError, match="nonsense has no values: 'nonsense' is not a SMILES"):
        predictor.predict("nonsense")["gap"]
    with pytest.raises(ConfigError, match="no target 'homo'; there are gap, dipole, charges"):
        predictor.predict("CCO")["homo"]


def test_predictions_as_a_table_of_pandas(folder):
    frame = molformer.load(folder).predict(["CCO", "nonsense"], conformers=2).to_frame()
    assert list(frame["status"]) == ["ok", "invalid_input"]
    assert list(frame["formula"]) == ["C2H6O", ""]
    assert frame["gap (eV)"].isna().tolist() == [False, True]
    assert frame["gap_conformer_std (eV)"].notna().tolist() == [True, False]
    assert len(frame["charges (e)"][0]) == 9


def test_the_pipeline_gives_plain_values(folder):
    pipe = molformer.pipeline("property-prediction", model=folder, targets=["gap"], unit="meV")
    good, bad = pipe(["CCO", "C1CC"])
    assert set(good) == {"input", "formula", "status", "message", "gap (meV)"}
    assert type(good["gap (meV)"]) is float
    assert good["gap (meV)"] == pytest.approx(1e3 * float(molformer.load(folder).predict("CCO")["gap"]))
    assert bad["status"] == "invalid_input"
    assert bad["gap (meV)"] is None
    with pytest.raises(ConfigError, match="no task 'magic'; choose one of property-prediction"):
        molformer.pipeline("magic", model=folder)


def test_geometries_are_made_as_they_were_for_the_training():
    bare = Predictor(small_model(TARGETS, torch.float32))
    assert bare.predict("CCO")[0].structure.geometry == "etkdg+mmff"
    bare.model.domain = Domain((1, 6, 8), 20, ("etkdg",))
    assert bare.predict("CCO")[0].structure.geometry == "etkdg"


def test_progress_is_called_for_every_row(folder):
    told = []
    molformer.load(folder).predict(["C", "nonsense", "N"], progress=told.append)
    assert told == [1, 2, 3]


def _mixed(count):
    good = ["CCO", "c1ccccc1", "CC(=O)N", "OCC", "CNC", "C#N", "C1CCC1", "[OH-]"]
    bad = ["C1CC", "nonsense", "", "CBr", "C1#CC1", "*C", "C.C", "[Na+]"]
    chosen = np.random.default_rng(0).integers(0, 16, count)
    return [(good + bad)[index] for index in chosen], [index < 8 for index in chosen]


def _check_rows(predictor, smiles, fine):
    rows = predictor.predict(smiles, targets=["gap"], processes=2)
    assert len(rows) == len(smiles)
    assert [row.name for row in rows] == smiles
    assert [bool(row.values) for row in rows] == fine
    assert all(bool(row.message) != bool(row.values) for row in rows)
    expected = {one: predictor.predict(one, targets=["gap"])[0] for one in set(smiles)}
    for row in rows:
        assert row.status == expected[row.name].status
        if row.values:
            assert float(row["gap"]) == pytest.approx(float(expected[row.name]["gap"]), abs=1e-4)


def test_mixed_good_and_bad_smiles_have_as_many_rows_in_order(folder):
    _check_rows(molformer.load(folder), *_mixed(300))


@pytest.mark.slow
def test_ten_thousand_mixed_smiles_have_ten_thousand_rows_in_order(folder):
    _check_rows(molformer.load(folder), *_mixed(10_000))


@pytest.mark.parametrize(("few", "expected"), [(0, [3, 5]), (64, [1, 1])])
def test_the_network_leaves_cores_to_the_worker_processes_and_few_atoms_take_one(folder, monkeypatch, few, expected):
    monkeypatch.setattr("molformer.models.forward.FEW_ATOMS", few)
    predictor = molformer.load(folder)
    before, seen = torch.get_num_threads(), []
    forward = type(predictor.model.encoder).forward
    monkeypatch.setattr(
        type(predictor.model.encoder),
        "forward",
        lambda *inputs: seen.append(torch.get_num_threads()) or forward(*inputs),
    )
    torch.set_num_threads(5)
    try:
        for row in predictor.stream([Entry("CCO", smiles="CCO"), Entry("CO", smiles="CO")], processes=2):
            assert row.status == "ok"
            assert torch.get_num_threads() == 5  # between two rows the caller has all of them
        assert predictor.predict("CCO")[0].status == "ok"
        assert seen == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("place", [1e4, 1e6, 1e8])
def test_where_a_molecule_lies_does_not_matter(folder, place):
    near = embed_smiles("CCO")
    one, other = molformer.load(folder).predict([near, replace(near, pos=near.pos + place * np.array([1, -1, 1]))])
    assert other.status == "ok"
    assert float(one["gap"]) == pytest.approx(float(other["gap"]), abs=2e-5)


def test_cells_that_no_crystal_has_are_rows_and_the_others_are_computed(folder, tmp_path):
    lattices = (
        "1e100 0 0 0 1e100 0 0 0 1e100",
        "0.01 0 0 0 1e5 0 0 0 1e5",
        "1e-6 0 0 0 1e3 0 0 0 1e3",
        "6 0 0 0 6 0 0 0 6",
    )
    path = tmp_path / "cells.xyz"
    path.write_text("".join(f'1\nLattice="{lattice}"\nH 0 0 0\n' for lattice in lattices))
    rows = molformer.load(folder).predict(["CCO", path, embed_smiles("CCO")])
    assert [row.status for row in rows] == ["ok", *["invalid_input"] * 3, "ok", "ok"]


def test_a_value_that_is_not_finite_is_not_ok(folder):
    predictor = molformer.load(folder)
    with torch.no_grad():
        predictor.model.head("gap").scale.fill_(torch.inf)
    row = predictor.predict("CCO")[0]
    assert row.status == "not_finite"
    assert "'gap'" in row.message
    assert not row.values


def test_as_many_conformers_as_in_training_are_averaged_unless_a_number_is_given():
    model = small_model([Label("gap", "eV", "intensive")], torch.float32)
    assert Predictor(model).predict("CCCO")[0]["gap"].conformer_std is None
    trained = Predictor(model).predict("CCCO", conformers=3)[0]["gap"]
    model.domain = replace(model.domain, conformers=3)
    predictor = Predictor(model)
    found = predictor.predict("CCCO")[0]["gap"]
    assert float(found) == pytest.approx(float(trained), abs=1e-6)
    assert found.conformer_std == pytest.approx(trained.conformer_std, rel=1e-3)
    assert predictor.predict("CCCO", conformers=1)[0]["gap"].conformer_std is None
    assert Domain.from_dict(model.domain.to_dict()).conformers == 3
    assert Domain.from_dict({"elements": [], "max_atoms": 3, "geometries": []}).conformers == 1  # an older model
