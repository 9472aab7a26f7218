"""Every config in `configs/` is read, has a comment for each value, and trains a step on data of its kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from molformer.data.conformers import embed_smiles
from molformer.data.known_labels import DESCRIPTOR, known_label
from molformer.data.labels import split_target, with_kinds
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.training.arguments import read_configs
from molformer.training.run import train
from tests.helpers import random_structure

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
KINDS = {
    "logS": Label("logS", "", "intensive"),
    "active": Label("active", "", "binary"),
    "class": Label("class", "", "category", ("chair", "table")),
    "part": Label("part", "", "atom_category", ("sphere", "box")),
}


def label_of(name):
    if name.startswith(DESCRIPTOR):
        return Label(name, "", "intensive")
    label = KINDS.get(name) or known_label(name)
    assert label is not None, f"say in the test what '{name}' is"
    return label


def value_of(label, structure, seed):
    random = np.random.default_rng(seed)
    if label.kind == "tensor":
        matrix = random.normal(size=(3, 3))
        return matrix + matrix.T
    if label.is_class:
        return np.arange(len(structure)) % 2 if label.per_node else seed % 2
    return random.normal(size=((len(structure),) if label.per_node else ()) + label.shape)


@pytest.fixture
def data(tmp_path):
    def make(labels, points, inputs, bonds, geometries):
        members = []
        for seed in range(40):
            if bonds:
                bare = embed_smiles(f"C1{'C' * (2 + seed % 10)}1{'C' * (seed // 10)}")
            elif points:
                pos = np.random.default_rng(seed).normal(size=(40, 3))
                bare = Structure(np.zeros(40), pos)
            else:
                bare = random_structure(5, seed=seed)
            values = {label.name: value_of(label, bare, seed) for label in labels}
            smiles = "" if points else bare.smiles or f"C1{'C' * (2 + seed)}1"  # ring sizes are scaffolds
            features = np.random.default_rng(seed).normal(size=(len(bare), inputs)) if inputs else None
            members.append(
                replace(
                    bare, features=features, smiles=smiles, labels=values, geometry=geometries[seed % len(geometries)]
                )
            )
        return str(write_store(tmp_path / "data", members, labels).path)

    return make


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains_a_step(path, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_load(path.read_text())
    labels = [label_of(split_target(name)[0]) for name in text["targets"]]
    inputs = 3 * text.get("input_vectors", 0) + text.get("input_scalars", 0)
    geometries = list(text.get("geometry_repeats", ["given"]))
    store = data(labels, text.get("points", 0), inputs, text.get("molecular_graph", False), geometries)
    split = ["--split", "[24, 8, 8]"] if text.get("split_by") != "scaffold" else []
    small = ["--channels", "8", "--num_heads", "2", "--num_layers", "1", "--epochs", "1", "--wandb", "off"]
    batch = [
        "--batch_size",
        "24",
        "--epoch_size",
        "0",
        "--device",
        "cpu",
        "--initial=",
    ]  # what a run starts from is not there
    result = train(*read_configs(str(path), ["--data", store, *split, *small, *batch]))
    asked = with_kinds({label.name: label for label in labels}, text["targets"])
    assert [row.target for row in result.errors] == list(asked.values())
    assert all(np.isfinite(row.error) for row in result.errors)
    assert result.folder == Path(text["run"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_short_and_says_what_each_value_is(path):
    lines = path.read_text().splitlines()
    assert read_configs(str(path))[1].run == f"runs/{path.stem}"
    assert len(lines) < 40
    for line in lines:
        assert len(line) <= 120
        assert line == "" or line.lstrip().startswith("#") or "#" in line, line


def test_the_sweep_varies_keys_that_exist():
    sweep = yaml.safe_load((FOLDER / "sweeps" / "table.yaml").read_text())
    overrides = [
        f"--{key}={values.get('values', [values.get('min')])[0]}" for key, values in sweep["parameters"].items()
    ]
    command = [text for text in sweep["command"] if text.startswith("--")]
    encoder, training = read_configs(sweep["command"][2].replace("configs", str(FOLDER)), [*command, *overrides])
    assert encoder.channels == sweep["parameters"]["channels"]["values"][0]
    assert training.run == ""  # each run of the sweep has a folder of its own
