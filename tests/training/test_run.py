import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning import Callback

from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.datamodule import MoleculeDataModule
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError, StoreError, TrainingError
from molformer.inference import Predictor
from molformer.models import PropertyModel
from molformer.training.config import TrainingConfig
from molformer.training.evaluation import evaluate_model
from molformer.training.run import train
from molformer.training.target_errors import evaluate, predict_batches
from molformer.training.task import PropertyTask
from tests.helpers import small_config

TARGETS = ["energy", "gap", "dipole", "charges", "forces"]


def training(store, folder, **kwargs):
    values = {
        "data": store,
        "targets": TARGETS,
        "run": str(folder),
        "batch_size": 8,
        "epochs": 2,
        "ema_decay": 0.9,
        "wandb": "off",
        "device": "cpu",
        "baselines": False,
    }
    return TrainingConfig(**{**values, **kwargs})


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return train(small_config(num_layers=1), training(store, folder))


def test_the_run_folder_is_complete(run, store):
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "config.yaml",
        "split.json",
        "run.json",
        "model",
        "last.ckpt",
        "metrics.csv",
        "test_predictions.csv",
        "test_predictions.npz",
        "plots",
        "train.log",
    }
    assert {path.name for path in (run.folder / "plots").iterdir()} == {
        "learning_curve.png",
        *(f"parity_{name}.png" for name in TARGETS),
    }
    log = (run.folder / "train.log").read_text()
    assert "parameters; 8 molecules" in log
    assert log.count("val/loss") == 2
    names = {path.name for path in run.model.iterdir()}
    assert names == {"config.json", "model.safetensors", "reference.safetensors", "README.md"}
    split = json.loads((run.folder / "split.json").read_text())
    assert sorted(split["train"] + split["val"] + split["test"]) == list(range(60))
    settings = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert (settings["data"], settings["batch_size"], settings["lmax"]) == (store, 8, 2)


def test_the_same_settings_give_the_same_weights(run, store, tmp_path):
    again = train(small_config(num_layers=1), training(store, tmp_path / "again"))
    ours, theirs = (PropertyModel.load(one.model).state_dict() for one in (run, again))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_metrics_are_those_of_the_saved_model(run, store):
    data = MoleculeDataModule(store, TARGETS)
    predicted = predict_batches(PropertyModel.load(run.model), data.test_dataloader())
    errors = evaluate(predicted, data.targets, data)
    for row, reported in zip(errors, run.errors, strict=True):
        assert row.error == pytest.approx(reported.error, rel=1e-6)
    with open(run.folder / "metrics.csv") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert len(losses) == 2


def test_the_predictor_gives_the_written_predictions(run, store):
    data = MoleculeDataModule(store, TARGETS)
    with open(run.folder / "test_predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == data.split.test.tolist()
    predictions = Predictor.load(run.folder).predict([data.store[int(index)] for index in data.split.test])
    for row, prediction in zip(rows, predictions, strict=True):
        assert float(row["gap predicted [eV]"]) == pytest.approx(float(prediction["gap"]), abs=1e-4)


def test_the_model_card_names_data_errors_and_units(run):
    card = (run.model / "README.md").read_text()
    row = next(row for row in run.errors if row.target.name == "gap")
    assert f"| gap | eV | intensive | {row.count} | {row.error:.4g} |" in card
    assert "sha256" in card


def test_baselines_are_fitted_on_the_training_part_alone(run, store):
    data = MoleculeDataModule(store, TARGETS)
    gaps = data.store.column("gap")
    train_mean = np.nanmean(gaps[data.split.train])
    test = gaps[data.split.test]
    expected = np.abs(test[np.isfinite(test)] - train_mean).mean()
    row = next(row for row in run.errors if row.target.name == "gap")
    assert row.error_mean == pytest.approx(expected)
    assert row.count == np.isfinite(test).sum()


def test_averaged_weights_leave_integer_buffers_alone(run):
    state = torch.load(run.folder / "last.ckpt", weights_only=True)
    assert not any(key.endswith(("degrees", "order")) for key in state["state_dict"])
    task = PropertyTask.load_from_checkpoint(run.folder / "last.ckpt", weights_only=True)
    assert task.model.encoder.blocks[0].norm_1.degrees.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2]


def test_a_folder_with_a_run_is_not_overwritten(run, store):
    before = (run.model / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already: choose another folder with --run"):
        train(small_config(), training(store, run.folder))
    assert (run.model / "model.safetensors").read_bytes() == before


def test_nothing_is_written_when_the_settings_do_not_fit(store, tmp_path):
    with pytest.raises(StoreError, match="has no label 'lumo'"):
        train(small_config(), training(store, tmp_path / "run", targets=["lumo"]))
    with pytest.raises(StoreError, match="there is no store at"):
        train(small_config(), training("nothing", tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_with_advice(store, tmp_path):
    settings = training(store, tmp_path / "run", learning_rate=1.0, gradient_clip=1e30, loss="mse", epochs=20)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        train(small_config(num_layers=1), settings, progress=_Breaker())


class _Breaker(Callback):
    """Makes the weights useless after the first epoch, as a step that is too large does."""

    def on_train_epoch_end(self, trainer, pl_module):
        with torch.no_grad():
            next(pl_module.parameters()).fill_(float("nan"))


def test_bf16_and_float64_train(store, tmp_path):
    for precision in ("bf16-mixed", "64"):
        settings = training(store, tmp_path / precision, precision=precision, epochs=1, targets=["gap"])
        result = train(small_config(num_layers=1), settings)
        assert np.isfinite(result.errors[0].error)


def test_a_task_learns(store, tmp_path):
    """On the molecules that it is trained on, the error falls far below that of the composition."""
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=60, learning_rate=0.01, weight_decay=0.0)
    result = train(small_config(num_layers=2, channels=16), settings)
    data = MoleculeDataModule(store, ["gap"])
    model = PropertyModel.load(result.model)
    prediction, label = predict_batches(model, data.train_dataloader()).values["gap"]
    assert np.nanmean(np.abs(prediction - label)) < 0.6 * model.head("gap").scale.item()


def test_a_table_of_smiles_is_imported_once_and_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLFORMER_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "mols.csv"
    smiles = ["C" * length + end for length in range(1, 9) for end in ("", "O", "N", "F")]
    lines = ["smiles,size (eV)", "nonsense,1", *(f"{text},{len(text)}" for text in smiles)]
    table.write_text("\n".join(lines) + "\n")
    for name in ("first", "second"):
        settings = training(str(table), tmp_path / name, targets=["size"], epochs=1)
        result = train(small_config(num_layers=1), settings)
        assert (result.errors[0].target.name, result.errors[0].target.unit) == ("size", "eV")
    stores = list((Path(os.environ["MOLFORMER_CACHE"]) / "stores").glob("mols-*.safetensors"))
    assert len(stores) == 1
    assert (stores[0].parent / stores[0].name.replace(".safetensors", ".rejected.csv")).exists()


def test_training_from_a_store_needs_neither_rdkit_nor_wandb_nor_ase(store, tmp_path):
    code = f"""
import sys
for name in ("rdkit", "wandb", "jsonargparse", "ase", "tblite", "e3nn"):
    sys.modules[name] = None
from molformer.models import SE3TransformerConfig
from molformer.training.config import TrainingConfig
from molformer.training.run import train
encoder = SE3TransformerConfig(lmax=1, channels=8, num_layers=1)
settings = TrainingConfig(data={store!r}, targets=["gap"], run={str(tmp_path / "run")!r}, epochs=1, batch_size=8)
print(train(encoder, settings).epochs)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1"


def test_batches_bounded_by_atoms_train(store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], batch_atoms=30, epochs=4)
    with open(train(small_config(num_layers=1), settings).folder / "metrics.csv") as file:
        losses = [row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]]
    assert len(losses) == 4


def test_a_device_that_is_not_there_is_said_before_anything_is_written(store, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match="torch finds no GPU here"):
        train(small_config(), training(store, tmp_path / "run", device="cuda"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_an_epoch_can_be_started_again(store, tmp_path):
    class Fails(Callback):
        def on_train_start(self, trainer, pl_module):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(small_config(num_layers=1), training(store, tmp_path / "run", epochs=1), progress=Fails())
    assert train(small_config(num_layers=1), training(store, tmp_path / "run", epochs=1)).epochs == 1


def test_the_quickstart_config_takes_another_table_as_the_readme_says(tmp_path):
    from molformer.training.arguments import read_configs

    config = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    table = tmp_path / "mols.csv"
    table.write_text("smiles,logS\n" + "".join(f"{'C' * n}O,{-n}\n{'C' * n}N,{-n - 0.5}\n" for n in range(1, 16)))
    overrides = ["--data", str(table), "--targets", "[logS]", "--run", str(tmp_path / "run"), "--wandb", "off"]
    result = train(*read_configs(str(config), [*overrides, "--epochs", "1"]))
    assert [row.target.name for row in result.errors] == ["logS"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's own look at it
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_layers_can_be_compiled_for_property_heads(run, store, tmp_path, monkeypatch):
    """The trained weights are those of a run without; names in the saved model do not change."""
    real, compiled = torch.nn.Module.compile, []

    def in_python(module, **kwargs):
        compiled.append(module)
        real(module, backend="eager", **kwargs)

    monkeypatch.setattr(torch.nn.Module, "compile", in_python)
    plain = train(small_config(num_layers=1), training(store, tmp_path / "plain", targets=["gap"], epochs=1))
    assert not compiled
    result = train(
        small_config(num_layers=1), training(store, tmp_path / "run", targets=["gap"], epochs=1, compile=True)
    )
    assert len(compiled) == 1
    ours, theirs = (PropertyModel.load(one.model).state_dict() for one in (result, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in ours)
    with pytest.raises(ConfigError, match=r"torch\.compile has no second derivative"):
        train(small_config(num_layers=1), training(store, tmp_path / "forces", compile=True))


def test_training_on_everything_without_validation_or_test_part(store, tmp_path, caplog):
    result = train(small_config(num_layers=1), training(store, tmp_path / "run", split=[1.0, 0, 0], patience=1))
    assert (result.errors, result.epochs) == ([], 2)
    assert any("the losses called val are those of the training part" in line for line in caplog.messages)
    card = (result.model / "README.md").read_text()
    assert "There was no test part" in card
    predictor = Predictor.load(str(result.model))
    (row,) = predictor.predict(StructureStore(store)[0])
    assert row.status == "ok"
    assert row.percentile is None
    assert all(value.interval is None for value in row.values.values())
    again = train(small_config(num_layers=1), training(store, result.folder, split=[1.0, 0, 0], epochs=3), resume=True)
    assert again.epochs == 3


@pytest.mark.parametrize("split", [[0.8, 0, 0.2], [0.8, 0.2, 0]])
def test_training_without_one_of_the_parts(store, tmp_path, split):
    result = train(small_config(num_layers=1), training(store, tmp_path / "run", split=split, targets=["gap"]))
    assert len(result.errors) == bool(split[2])
    with pytest.raises(ConfigError, match=r"part of .* is empty: choose another part"):
        evaluate_model(
            result.model, store, split_file=str(result.folder / "split.json"), part="val" if split[2] else "test"
        )


@pytest.fixture(scope="module")
def solubilities(tmp_path_factory):
    """A store of a few molecules, whose label is the share of their atoms that are oxygen."""
    smiles = ["C" * carbons + "O" * oxygens for carbons in range(2, 8) for oxygens in (0, 1)]
    molecules = [embed_smiles(text, ConformerPolicy("etkdg")) for text in smiles]
    rows = [each.annotated(labels={"share": (each.numbers == 8).mean()}) for each in molecules]
    return str(write_store(tmp_path_factory.mktemp("table") / "set", rows, [Label("share", "", "intensive")]).path)


@pytest.mark.parametrize("hydrogens", ["explicit", "implicit"])
def test_molecular_graphs_are_learnt_from_tested_and_predicted_with(solubilities, tmp_path, monkeypatch, hydrogens):
    monkeypatch.setenv("MOLFORMER_CACHE", str(tmp_path))
    encoder = small_config(
        num_layers=1, molecular_graph=True, drop_graph=0.3, charge_and_spin=True, hydrogens=hydrogens
    )
    settings = training(solubilities, tmp_path / "run", targets=["share"], split=[0.5, 0.25, 0.25])
    result = train(encoder, settings)
    model = PropertyModel.load(result.model)
    assert model.config == encoder
    assert model.domain.elements == ((1, 6, 8) if hydrogens == "explicit" else (6, 8))
    split = json.loads((result.folder / "split.json").read_text())
    store = StructureStore(solubilities)
    predictions = Predictor.load(result.folder).predict([store[index] for index in split["test"]])
    with open(result.folder / "test_predictions.csv") as file:
        for row, prediction in zip(csv.DictReader(file), predictions, strict=True):
            assert float(row["share predicted"]) == pytest.approx(float(prediction["share"]), abs=1e-4)
    again = evaluate_model(result.folder, solubilities, split_file=str(result.folder / "split.json"))
    assert again.errors[0].error == pytest.approx(result.errors[0].error, rel=1e-4)
    further = train(
        small_config(), training(solubilities, tmp_path / "more", targets=["share"], initial=str(result.folder))
    )
    assert PropertyModel.load(further.model).config.hydrogens == hydrogens


def test_cuda_graphs_are_not_for_molecular_graphs(solubilities, tmp_path):
    settings = training(solubilities, tmp_path / "run", targets=["share"], cuda_graphs=True)
    with pytest.raises(ConfigError, match="cuda_graphs is not for molecular_graph or charge_and_spin"):
        train(small_config(molecular_graph=True), settings)
