import csv

import numpy as np
import pytest
from rdkit import Chem

import molformer
from molformer.data.readers import Entry
from molformer.errors import InputError
from molformer.inference.prediction import Prediction
from molformer.inference.request import PredictionRequest
from molformer.inference.sources import read_inputs
from molformer.inference.writers import open_writer
from tests.helpers import random_structure

SMILES = ["CCO", "nonsense", 'C"C', "CC", "OCC", "CN", "C#N"]


class Killed(BaseException):
    pass


def write(predictor, path, smiles=SMILES, resume=False, killed_after=None, **options):
    request = PredictionRequest.of(predictor.model.targets, **options)
    with open_writer(path, predictor.layout(request), resume) as writer:
        rows = predictor.stream(writer.rest(read_inputs(smiles)), request)
        for count, row in enumerate(rows):
            if count == killed_after:
                raise Killed
            writer.write(row)


def records(path):
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return parquet.read_table(path).to_pylist()
    return [mol.GetPropsAsDict() for mol in Chem.SDMolSupplier(str(path), removeHs=False)]


@pytest.mark.parametrize("suffix", [".csv", ".sdf", ".parquet"])
def test_every_kind_of_file_has_every_row(folder, tmp_path, suffix):
    predictor, path = molformer.load(folder), tmp_path / f"out{suffix}"
    write(predictor, path)
    rows, expected = records(path), predictor.predict(SMILES)
    assert [row["input"] for row in rows] == SMILES
    assert [row["status"] for row in rows] == [row.status for row in expected]
    for row, prediction in zip(rows, expected, strict=True):
        if prediction.values:
            assert float(row["gap (eV)"]) == pytest.approx(float(prediction["gap"]), abs=1e-5)
            charges = row["charges (e)"]
            charges = charges.split() if isinstance(charges, str) else charges
            assert np.allclose([float(charge) for charge in charges], prediction["charges"].value, atol=1e-5)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".csv", ".sdf", ".parquet"])
@pytest.mark.parametrize("killed_after", [0, 3])
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_keeps_its_rows_and_goes_on(folder, tmp_path, suffix, killed_after, torn):
    predictor, path = molformer.load(folder), tmp_path / f"out{suffix}"
    with pytest.raises(Killed):
        write(predictor, path, killed_after=killed_after)
    kept = tmp_path / "out.parquet.part.csv" if suffix == ".parquet" else path
    if torn:
        with open(kept, "a") as file:
            file.write('"CC,half a "" row,\n 3.1' if suffix != ".sdf" else "CC\n     RDKit          3D\n\n  8")
    write(predictor, path, resume=True)
    whole = tmp_path / f"whole{suffix}"
    write(predictor, whole)
    assert [row["input"] for row in records(path)] == SMILES
    assert [row["status"] for row in records(path)] == [row["status"] for row in records(whole)]
    if suffix != ".parquet":
        write(predictor, path, resume=True)  # nothing is left to do
        assert len(records(path)) == len(SMILES)


@pytest.mark.parametrize("suffix", [".csv", ".sdf"])
def test_a_file_of_another_run_is_not_gone_on_with(folder, tmp_path, suffix):
    predictor, path = molformer.load(folder), tmp_path / f"out{suffix}"
    with pytest.raises(Killed):
        write(predictor, path, killed_after=3)
    before = path.read_bytes()
    with pytest.raises(InputError, match="its row 2 is 'nonsense' and now it is 'CC'"):
        write(predictor, path, ["CCO", "CC", "CN"], resume=True)
    with pytest.raises(InputError, match=r"its row 3 is '.*' and now there is none"):
        write(predictor, path, SMILES[:2], resume=True)
    with pytest.raises(InputError, match="has other columns: resume with the same model, targets, units"):
        write(predictor, path, resume=True, unit="meV")
    assert path.read_bytes() == before


def test_without_resume_a_file_is_written_anew(folder, tmp_path):
    predictor = molformer.load(folder)
    write(predictor, tmp_path / "out.csv")
    write(predictor, tmp_path / "out.csv", ["C"])
    assert len(records(tmp_path / "out.csv")) == 1


def test_a_name_of_several_lines_does_not_break_a_file(folder, tmp_path):
    predictor = molformer.load(folder)
    layout = predictor.layout(PredictionRequest.of(predictor.model.targets))
    for path, name in ((tmp_path / "out.csv", 'two\n"lines"\n'), (tmp_path / "out.sdf", "two\n$$$$\nlines")):
        for resume in (False, True):
            with open_writer(path, layout, resume) as writer:
                entries = [Entry(name, smiles="C"), Entry("other", smiles="C")]
                for entry in writer.rest(entries):
                    writer.write(Prediction(entry.name, "invalid_input", "because"))
        assert len(records(path)) == 2


def test_an_sdf_file_has_the_geometry_and_its_bonds(folder, tmp_path):
    predictor = molformer.load(folder)
    request = PredictionRequest.of(predictor.model.targets)
    given = predictor.predict("CC(=O)N")[0].structure
    xyz = molformer.Structure(given.numbers, given.pos)
    with open_writer(tmp_path / "out.sdf", predictor.layout(request)) as writer:
        for row in predictor.stream(read_inputs(["CC(=O)N", xyz, random_structure(5)]), request):
            writer.write(row)
    first, second, third = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False, sanitize=False)
    assert np.allclose(first.GetConformer().GetPositions(), given.pos, atol=1e-4)
    for mol in (first, second):
        Chem.SanitizeMol(mol)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == "CC(N)=O"
    assert third.GetNumAtoms() == 5


def test_a_kind_of_file_that_cannot_be_written_is_named(folder, tmp_path):
    predictor = molformer.load(folder)
    with pytest.raises(InputError, match=r"must end in \.csv, \.parquet, \.sdf"):
        open_writer(tmp_path / "out.docx", predictor.layout(PredictionRequest.of(predictor.model.targets)))


def test_a_formula_is_a_text_in_a_csv_file_and_as_it_is_elsewhere(folder, tmp_path):
    predictor, smiles = molformer.load(folder), ["=1+1", "-C", "CCO"]
    for suffix, names in ((".csv", ["'=1+1", "'-C", "CCO"]), (".sdf", smiles), (".parquet", smiles)):
        write(predictor, tmp_path / f"out{suffix}", smiles)
        assert [row["input"] for row in records(tmp_path / f"out{suffix}")] == names
    text = (tmp_path / "out.csv").read_text()
    write(predictor, tmp_path / "out.csv", smiles, resume=True)
    assert (tmp_path / "out.csv").read_text() == text
    assert "e-" in text or ",-" in text  # numbers stay


@pytest.mark.parametrize("suffix", [".csv", ".sdf"])
def test_a_full_disk_is_one_line(folder, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"cannot write '.*/out\..*': No space left on device"):
        write(molformer.load(folder), path)
