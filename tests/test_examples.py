"""Configs, notebooks and data of the package, from any folder."""

from pathlib import Path

import pytest

from molformer.errors import ConfigError
from molformer.examples import CONFIGS, FOLDER, config_names, copy, find_config
from molformer.training.arguments import read_configs
from tests.test_cli import molformer

ROOT = Path(__file__).parents[1]


def test_every_config_of_the_checkout_is_there():
    stored = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in ROOT.glob("configs/**/*.yaml")}
    assert set(config_names()) == stored
    assert {"table", "qm9", "sweeps/table"} <= stored


@pytest.mark.parametrize("name", ["table", "table.yaml", "configs/table.yaml"])
def test_a_config_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / "table.yaml"
    assert read_configs(name)[1].run == "runs/table"


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").mkdir()  # a folder is no config
    assert find_config("table") == CONFIGS / "table.yaml"
    (tmp_path / "table.yaml").write_text("epochs: 7\ndata: mine\ntargets: [logS]\n")
    assert read_configs("table.yaml")[1].epochs == 7


@pytest.mark.parametrize(("name", "hint"), [("tabel", "did you mean 'table'"), ("zzz", "classification, debug")])
def test_an_unknown_name_has_a_hint(name, hint):
    with pytest.raises(ConfigError, match=hint):
        read_configs(name)


def test_the_embedded_data_set_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_configs("quickstart")[1].data == str(FOLDER / "data" / "gfn2.safetensors")
    assert read_configs("quickstart", ["--data", "mine"])[1].data == "mine"


def test_copies(tmp_path):
    (path,) = copy([find_config("table")], tmp_path / "new")
    assert path.read_bytes() == (ROOT / "configs" / "table.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"table\.yaml' is there already"):
        copy([find_config("table")], tmp_path / "new")


def test_the_notebooks_come_with_what_they_read(tmp_path):
    done = molformer("notebooks", "-o", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "mine" / "notebooks").glob("*.ipynb"))
    for name in ("data/gfn2", "data/molecules.smi", "data/examples/paracetamol.xyz", "configs/nbody.yaml"):
        assert f"../{name}" in texts
        assert (tmp_path / "mine" / name).exists() or (tmp_path / "mine" / f"{name}.safetensors").exists()


def test_the_command_lists_and_copies(tmp_path):
    assert "A number for each molecule of a table" in molformer("configs", "list").stdout
    assert molformer("configs", "copy", "table", "md17", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["md17.yaml", "table.yaml"]
