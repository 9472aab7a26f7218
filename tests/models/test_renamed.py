"""Earlier names of config keys: accepted with a warning where a user writes them, silently in files of the package."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
import yaml

from molformer.models import PropertyModel
from molformer.models.config import SE3TransformerConfig
from molformer.models.renamed import RENAMED
from molformer.targets import Label
from molformer.training.arguments import KEYS, read_configs, read_run
from molformer.training.task import PropertyTask
from molformer.training.tune import Range
from tests.helpers import moved, random_graph, small_config
from tests.test_cli import molformer

VALUES = {
    "centre": True,
    "divide": 4,
    "input_edge_numbers": 3,
    "input_numbers": 2,
    "neighbours": 5,
    "up": "z",
}
PAPER = {"architecture": "paper", "lmax": 1, "channels": 16, "num_heads": 2, "num_layers": 1, "edge_features": 64}


def test_every_renamed_key_is_tried_here():
    assert VALUES.keys() == RENAMED.keys()
    assert set(RENAMED.values()) <= set(KEYS)
    assert not RENAMED.keys() & set(KEYS)


@pytest.mark.parametrize("name", RENAMED)
def test_python_accepts_the_earlier_name(name):
    with pytest.warns(DeprecationWarning, match=f"the config key '{name}' is now '{RENAMED[name]}'") as caught:
        config = SE3TransformerConfig(**{**PAPER, name: VALUES[name]})
    assert caught[0].filename == __file__
    assert config == SE3TransformerConfig(**{**PAPER, RENAMED[name]: VALUES[name]})
    with pytest.warns(DeprecationWarning, match=name):
        assert getattr(config, name) == VALUES[name]
    with pytest.warns(DeprecationWarning, match=name):
        assert replace(SE3TransformerConfig(**PAPER), **{name: VALUES[name]}) == config


def test_other_attributes_and_arguments_are_still_refused():
    with pytest.raises(AttributeError, match="no attribute 'center_of_mass'"):
        SE3TransformerConfig().center_of_mass  # noqa: B018
    with pytest.raises(TypeError, match="center_of_mass"):
        SE3TransformerConfig(center_of_mass=True)


@pytest.mark.parametrize("name", RENAMED)
def test_yaml_and_command_line_accept_the_earlier_name(name, tmp_path):
    path, text = tmp_path / "config.yaml", json.dumps(VALUES[name]).strip('"')
    path.write_text(yaml.safe_dump({"data": "x.csv", "targets": ["y"], **PAPER, name: VALUES[name]}))
    others = [f"--{key}={value}" for key, value in {"data": "x", "targets": '["y"]', **PAPER}.items()]
    expected = SE3TransformerConfig(**{**PAPER, RENAMED[name]: VALUES[name]})
    for source, overrides in (
        (str(path), []),
        (None, [*others, f"--{name}", text]),
        (None, [*others, f"--{name}={text}"]),
    ):
        with pytest.warns(DeprecationWarning, match=f"the config key '{name}' is now '{RENAMED[name]}'"):
            assert read_configs(source, overrides)[0] == expected
    with pytest.warns(DeprecationWarning, match=name):
        assert Range.parse(f"{name}=1,2").key == RENAMED[name]


def test_the_command_line_warns_in_one_line(tmp_path):
    result = molformer("train", "--data", str(tmp_path / "none.csv"), "--target", "y", "--divide", "1")
    first, second = result.stderr.splitlines()
    assert first.startswith("molformer: the config key 'divide' is now 'channels_div'; the next release")
    assert result.returncode == 2
    assert "none.csv" in second


def test_a_run_of_an_earlier_version_goes_on_silently(tmp_path):
    settings = {"data": "x.csv", "targets": ["y"], **PAPER, "divide": 4, "centre": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    encoder, training = read_run(str(tmp_path), ["--epochs", "3"])
    assert (encoder.channels_div, encoder.center, training.epochs) == (4, True, 3)
    target = {"name": "y", "unit": "eV", "kind": "intensive"}
    domain = {"elements": [1, 8], "max_atoms": 3, "geometries": []}
    task = PropertyTask({**PAPER, "divide": 4}, [target], {"data": "x.csv", "targets": ["y"]}, domain)
    assert task.model.config.channels_div == 4


def test_a_model_folder_of_an_earlier_version_predicts_the_same(tmp_path):
    model = moved(PropertyModel(small_config(center=True, max_neighbors=3), [Label("gap", "eV", "intensive")])).eval()
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder"]["max_neighbors"] == 3
    earlier = {new: old for old, new in RENAMED.items()}
    config["encoder"] = {earlier.get(name, name): value for name, value in config["encoder"].items()}
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 2}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = PropertyModel.load(tmp_path)
    graph = random_graph((5, 4))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(graph)["gap"], model(graph)["gap"])
