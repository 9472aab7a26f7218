from dataclasses import replace

import pytest
import yaml

from molformer.errors import ConfigError
from molformer.models import preset
from molformer.training.arguments import KEYS, describe_keys, plain_overrides, read_configs


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"data": "set", "targets": ["gap"], "preset": "tiny", "learning_rate": 0.002}))
    return str(path)


def test_preset_then_file_then_command_line(config):
    encoder, training = read_configs(config, ["--epochs", "3", "--channels=16", "--targets", "[gap, homo]"])
    assert encoder.num_layers == preset("tiny").num_layers
    assert (encoder.channels, training.epochs, training.learning_rate) == (16, 3, 0.002)
    assert training.targets == ["gap", "homo"]


def test_the_preset_can_be_overridden(config):
    encoder, _ = read_configs(config, ["--preset", "base"])
    assert encoder == preset("base")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch", "3"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["--xyzzy", "3"], "unknown key 'xyzzy'; known keys: preset, lmax"),
        (["--epochs", "many"], '"epochs": Expected a int. Got value: many'),
        (["--epochs"], "expected one argument"),
        (["--loss", "l7"], "loss"),
        (["--lmax", "9"], "lmax is 9; choose 0 to 6"),
        (["--num_heads", "5"], r"must be a multiple of num_heads \(5\)"),
        (["--preset", "huge"], "there is no preset 'huge'; choose one of tiny, small, base, paper"),
        (["--learning_rate", "7"], "learning_rate is 7.0; it must lie between 0 and 1"),
        (["--target_weights", "{homo: 2}"], "target_weights names 'homo'"),
        (["--geometry_repeats", "{given: -1}"], "geometry_repeats of 'given' is -1; it must be at least 0"),
        (["--geometry_repeats", "{given: 2}", "--points", "8"], "geometry_repeats and conformers are for molecules"),
        (["--targets", "[]"], "no targets"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_remedy(config, arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_configs(config, arguments)
    assert "\n" not in str(error.value)


def test_a_table_is_trained_on_as_its_config_says():
    from molformer.examples import find_config

    for words in (["--data", "mols.csv"], ["--data=Mols.TSV.gz"], plain_overrides(["--data", "a.csv", "b.csv"])):
        encoder, training = read_configs(None, [*words, "--targets", "[y]"])
        table = read_configs(str(find_config("table")), ["--targets", "[y]"])
        assert encoder == table[0]
        assert training == replace(table[1], data=training.data, run=training.run, split_by="auto")
    encoder, training = read_configs(None, ["--data", "mols.sdf", "--targets", "[y]"])
    assert (encoder, training.descriptors) == (preset("tiny"), "none")


@pytest.mark.parametrize(("name", "graph"), [("tiny", True), ("small", True), ("paper", False)])
def test_a_preset_comes_before_the_settings_of_tables(name, graph):
    encoder, training = read_configs(None, ["--data=mols.csv", "--targets=[y]", f"--preset={name}"])
    chosen = preset(name)
    assert (encoder.lmax, encoder.channels, encoder.num_layers) == (chosen.lmax, chosen.channels, chosen.num_layers)
    assert (encoder.architecture, encoder.molecular_graph) == (chosen.architecture, graph)
    assert encoder.hydrogens == ("implicit" if graph else "explicit")
    assert (training.descriptors, training.initial) == ("both", "")
    assert read_configs(None, ["--data=mols.csv", "--targets=[y]"])[1].initial == "base"
    assert read_configs(None, ["--data=mols.csv", "--targets=[y]", "--lmax=2"])[1].initial == ""


def test_sizes_of_the_initial_model_are_not_asked_for(tmp_path):
    (tmp_path / "config.yaml").write_text("data: mols.csv\ntargets: [y]\ninitial: base\nlmax: 2\n")
    path = str(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="channels is that of 'base', from which the run starts: leave it out, or"):
        read_configs(path, ["--channels", "64"])
    assert read_configs(path, ["--channels", "64", "--initial="])[0].channels == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs: [", "is not valid YAML"),
        ("- a\n- b", "must hold lines of the form"),
        ("targets: 3\ndata: x", "targets"),
    ],
)
def test_broken_files_are_named(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_configs(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"there is no config file 'nothing\.yaml'"):
        read_configs("nothing.yaml")


def test_every_committed_config_is_valid_and_short():
    from pathlib import Path

    paths = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    assert paths
    for path in paths:
        read_configs(str(path))
        lines = path.read_text().splitlines()
        assert len(lines) < 40
        assert all("#" in line for line in lines if ":" in line)


def test_a_run_needs_no_yaml():
    overrides = plain_overrides(["--data", "mols.csv", "--target", "logS", "--no-wandb"])
    _, training = read_configs(None, overrides)
    assert (training.data, training.targets, training.wandb, training.run) == ("mols.csv", ["logS"], "off", "")
    with pytest.raises(ConfigError, match="--target needs the name"):
        plain_overrides(["--target"])


def test_every_key_is_described():
    rows = {key: (default, meaning) for key, default, meaning in describe_keys()}
    assert set(rows) == set(KEYS)
    assert all(meaning for _, meaning in rows.values())
    assert rows["learning_rate"][0] == "0.001"
