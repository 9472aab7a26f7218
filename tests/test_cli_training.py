"""Training on the command line: from a table to a model, and on from there."""

import csv

import pytest

from tests.test_cli import molformer

SIZES = ("--lmax", 1, "--channels", 8, "--num_layers", 1, "--num_heads", 2)
SMALL = (*SIZES, "--epochs", 2, "--no-wandb", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table, and a model trained on it without any config."""
    folder = tmp_path_factory.mktemp("work")
    rows = [f"{'C' * n}{end},{n + weight},{int(n > 6)}" for n in range(1, 13) for end, weight in (("O", 1), ("N", 0.5))]
    (folder / "mols.csv").write_text("\n".join(["smiles,logS,large", *rows]) + "\n")
    result = molformer("train", "--data", "mols.csv", "--target", "logS", *SMALL, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "MAE" in result.stdout
    assert "parameters; 19 molecules" in result.stderr
    return folder


def test_a_run_without_a_config_has_a_folder_named_after_data_and_target(folder):
    assert (folder / "runs" / "mols-logS" / "model" / "model.safetensors").is_file()
    result = molformer("train", "--data", "mols.csv", "--target", "logS", "--target", "large", *SMALL, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "ROC-AUC" in result.stdout or "wrong" in result.stdout
    assert (folder / "runs" / "mols-logS-large").is_dir()


def test_resume(folder):
    result = molformer("train", "--resume", "runs/mols-logS", "--epochs", 3, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "after 3 epochs" in result.stdout
    for arguments, message in (
        (("train", "--resume", "runs/nothing"), "is not a run folder"),
        (("train", "config.yaml", "--resume", "runs/mols-logS"), "--resume takes no config"),
        (("train", "--resume", "runs/mols-logS", "--lmax", 2), "lmax cannot be changed"),
    ):
        result = molformer(*arguments, cwd=folder)
        assert result.returncode == 2
        assert message in result.stderr


def test_finetune(folder):
    settings = ("--target", "large", "--epochs", 1, "--no-wandb", "--run", "runs/tuned", "--freeze", 1)
    result = molformer("finetune", "runs/mols-logS", "--data", "mols.csv", *settings, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "large" in result.stdout


def test_pretrain_needs_no_labels_and_goes_on(folder):
    lists = ("--data", "mols.csv", "more.smi")
    (folder / "more.smi").write_text("c1ccccc1\nCC(=O)[O-]\n")
    result = molformer("pretrain", *lists, *SMALL, "--batch_size", 4, "--run", "runs/pretrained", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "rdkit.MolLogP" in result.stdout
    result = molformer("pretrain", "--resume", "runs/pretrained", "--epochs", 3, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "epoch 3/3" in result.stdout + result.stderr
    result = molformer("pretrain", "--data", "more.smi", "--objectives", '{"descriptor": 1}', cwd=folder)
    assert result.returncode == 2
    assert "objectives names 'descriptor'" in result.stderr


def test_evaluate_prints_intervals_and_writes_predictions_and_plots(folder):
    split = ("--split", "runs/mols-logS/split.json", "--part", "val")
    result = molformer("evaluate", "runs/mols-logS", "mols.csv", *split, "-o", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "95 %" in result.stdout
    with open(folder / "out" / "test_predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert (folder / "out" / "plots" / "parity_logS.png").is_file()


def test_tune(folder):
    search = ("--vary", "learning_rate=1e-4:1e-2", "--trials", 2, "--folder", "search")
    result = molformer("tune", "--data", "mols.csv", "--target", "logS", *SMALL, *search, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("trial ") == 2
    assert "Best validation loss" in result.stdout


def test_settings_lists_every_key(folder):
    result = molformer("settings")
    assert result.returncode == 0
    assert all(key in result.stdout for key in ("learning_rate", "lmax", "stochastic_depth", "noise", "devices"))
