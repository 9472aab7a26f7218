"""From lists of SMILES to an encoder that others start from."""

import csv
import gzip
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from molformer.data.conformers import ConformerPolicy
from molformer.data.importing import drawn, open_data
from molformer.data.readers import Entry
from molformer.data.report import report_dropped
from molformer.data.store import write_store
from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.inference import Predictor
from molformer.models import PropertyModel
from molformer.training.arguments import PRETRAINING, plain_overrides, read_configs, read_run
from molformer.training.config import TrainingConfig
from molformer.training.run import train
from tests.helpers import random_structure
from tests.training.test_resume import rows_of

SIZES = ("--lmax=1", "--channels=8", "--num_layers=1", "--num_heads=2")
OTHERS = ("--wandb=off", "--device=cpu", "--batch_size=8")
LARGEST = ConformerPolicy(salts="largest")
SMILES = [f"{'C' * n}{end}" for n in range(1, 9) for end in ("O", "N", "Cl", "C(=O)[O-]", "S", "[NH3+]")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A packed list of SMILES, one of them a salt and one no molecule, and a store with a label."""
    folder = tmp_path_factory.mktemp("lists")
    with gzip.open(folder / "list.csv.gz", "wt") as file:
        file.write("\n".join(["smiles", *SMILES, "CC(=O)[O-].[Na+]", "C1CC"]))
    members = [random_structure(5, seed=n, smiles="CCO", labels={"gfn2_homo": -9.0 - n}) for n in range(20)]
    store = write_store(folder / "labelled", members, [Label("gfn2_homo", "eV", "intensive")])
    return [str(folder / "list.csv.gz"), str(store.path)]


def configs(files, folder, *more):
    sizes = () if "--initial" in more else SIZES
    overrides = plain_overrides(["--data", *files, f"--run={folder}", *sizes, *OTHERS, *more])
    return read_configs(None, overrides, PRETRAINING)


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    more = ("--target", "gfn2_homo", "--target", "rdkit.MolLogP", "--epochs=12", "--learning_rate=0.01")
    return train(*configs(files, folder, *more))


def test_it_learns_the_objectives_and_the_labels_that_there_are(run):
    rows = rows_of(run.folder)
    for name in ("descriptors", "masking", "gfn2_homo", "rdkit.MolLogP"):
        assert float(rows[-1][f"train/{name}"]) < float(rows[0][f"train/{name}"]), name
    assert float(rows[-1]["val/descriptors"]) < float(rows[0]["val/descriptors"])
    assert float(rows[-1]["val/loss"]) > float(rows[-1]["val/descriptors"])
    assert "val/masking" not in rows[-1]


def test_the_data_are_all_molecules_of_all_inputs_with_descriptors(run, files):
    store = open_data(files, ["gfn2_homo"], descriptors=True, policy=LARGEST)  # from the cache
    assert len(store) == len(SMILES) + 1 + 20
    assert store[len(SMILES)].smiles == "CC(=O)[O-]"
    assert np.isfinite(store.column("rdkit.MolLogP")).all()
    assert np.isfinite(store.column("gfn2_homo")).sum() == 20


def test_the_model_predicts_embeds_and_is_started_from(run, files, tmp_path):
    predictor = Predictor.load([str(run.model)], device="cpu")
    assert predictor.embed(["CCO", "CCCl"]).shape[0] == 2
    values = predictor.predict(["CCO"])[0]
    assert {"gfn2_homo", "rdkit.MolLogP"} <= set(values.values)
    more = ("--target", "rdkit.TPSA", "--epochs=1", "--objectives={}", "--noise=0")
    store = open_data(files, ["gfn2_homo"], descriptors=True, policy=LARGEST).path
    tuned = train(*configs([str(store)], tmp_path / "tuned", *more, "--initial", str(run.folder)))
    before, after = (PropertyModel.load(folder).encoder.state_dict() for folder in (run.model, tuned.model))
    assert all((before[key] - after[key]).abs().max() < 5e-3 for key in before)


KILLED = """
import os, signal
from lightning import Callback
from molformer.training.run import train
from tests.training.test_pretraining import configs

class Kill(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)

train(*configs({files!r}, {folder!r}, "--epochs=3", "--sample=30"), Kill())
"""


def test_a_killed_run_goes_on_with_the_same_numbers(files, tmp_path):
    code = KILLED.format(files=files[:1], folder=str(tmp_path / "killed"))
    threads = str(torch.get_num_threads())  # results are the same bit for bit with as many threads
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = train(*configs(files[:1], tmp_path / "whole", "--epochs=3", "--sample=30"))
    resumed = train(*read_run(str(tmp_path / "killed")), resume=True)
    assert rows_of(resumed.folder) == rows_of(whole.folder)
    one, other = (PropertyModel.load(result.model).state_dict() for result in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_larger_sample_begins_with_the_smaller_one():
    entries = [Entry(str(n), smiles="C" * n) for n in range(1, 200)]
    few, more = (drawn(iter(entries), count, seed=3) for count in (10, 50))
    assert more[:10] == few
    assert len(set(map(id, more))) == 50
    assert [entry.name for entry in few] != sorted(entry.name for entry in few)
    assert drawn(reversed(entries), 10, seed=3) == few
    assert drawn(iter(entries), 10, seed=4) != few


def test_a_sample_is_of_the_lists_and_not_of_the_labelled(files):
    store = open_data(files, descriptors=True, sample=7, seed=1, policy=LARGEST)
    assert np.isfinite(store.column("gfn2_homo")).sum() == 20
    assert len(store) == 27


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": {"denoise": 1.0}}, "objectives names 'denoise'; there are denoising, masking, descriptors"),
        ({"objectives": {"denoising": 1.0}}, "denoising needs noise on the positions"),
        ({"objectives": {"masking": -1.0}}, "a weight of objectives is negative"),
        ({"sample": 10}, "sample is for pretraining with descriptors"),
        ({"objectives": {"masking": 1.0}, "cuda_graphs": True}, "cuda_graphs is not for noise, objectives"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(data="x", targets=["gap"], **settings)


def test_weights_of_older_configs_count():
    assert TrainingConfig(data="x", targets=["y"], noise=0.1, noise_weight=0.3).objective_weights == {"denoising": 0.3}
    assert TrainingConfig(data="x", targets=["y"], noise=0.1, objectives={"denoising": 0}).objective_weights == {}
    assert TrainingConfig(data="x", targets=["y"]).objective_weights == {}


def test_several_files_follow_data():
    assert plain_overrides(["--data", "a.smi", "b.smi", "--epochs", "3"]) == [
        *("--data", '["a.smi", "b.smi"]', "--epochs", "3")
    ]
    assert plain_overrides(["--epochs", "3", "--data", "a.smi"]) == ["--epochs", "3", "--data", "a.smi"]
    with pytest.raises(ConfigError, match="--data needs"):
        plain_overrides(["--data", "--epochs", "3"])


def test_rejected_rows_are_listed(files, caplog):
    report_dropped(open_data(files[:1], descriptors=True, policy=LARGEST))
    (message,) = caplog.messages
    assert message.startswith(f"1 of {len(SMILES) + 2} rows were dropped")
    with open(message.rpartition(" in ")[2], newline="") as file:
        assert [(row["row"], row["smiles"]) for row in csv.DictReader(file)] == [(str(len(SMILES) + 2), "C1CC")]
