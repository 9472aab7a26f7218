import sys
from types import SimpleNamespace

import pytest

import molformer
from molformer.errors import ConfigError, ModelError
from molformer.inference import Predictor, models
from tests.inference.conftest import TARGETS


def value(predictor):
    return float(predictor.predict("CCO")["gap"])


@pytest.fixture
def hub(monkeypatch, folder):
    """A hub that holds one model and remembers what it was asked."""
    asked = {}

    def snapshot_download(repo_id, **options):
        asked["download"] = {"repo_id": repo_id, **options}
        if repo_id != "someone/model":
            raise OSError(f"404: no repository {repo_id}\nmore")
        return folder

    class HfApi:
        def __init__(self, token=None):
            asked["token"] = token

        def create_repo(self, repo_id, private=None, exist_ok=False):
            asked["repo"] = (repo_id, private)

        def upload_folder(self, repo_id, folder_path, commit_message):
            from pathlib import Path

            asked["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setitem(
        sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download, HfApi=HfApi)
    )
    return asked


def test_a_run_folder_is_as_good_as_its_model_folder(folder):
    run = folder.removesuffix("model")
    assert value(molformer.load(run)) == value(molformer.load(folder))


def test_a_missing_model_is_named_with_those_that_are_shipped(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(ModelError, match=r"no model folder at 'qm9', and no shipped model of that name \(this version"):
        molformer.load("qm9")
    (tmp_path / "tiny").symlink_to(folder)
    assert value(molformer.load("tiny")) == value(molformer.load(folder))
    with pytest.raises(ModelError, match=r"this version ships tiny"):
        molformer.load("qm9")


def test_qm9_is_taken_where_no_model_is_named_if_it_is_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(ModelError, match="name one with --model"):
        models.default_model()
    (tmp_path / "qm9").mkdir()
    (tmp_path / "qm9" / "config.json").write_text("{}")
    assert models.default_model() == "qm9"


def test_what_is_shipped_is_described(monkeypatch, tmp_path, folder):
    (tmp_path / "tiny").symlink_to(folder)
    (tmp_path / "README.md").write_text("no model")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    assert list(models.shipped()) == ["tiny"]
    targets, elements, size = models.describe(models.shipped()["tiny"])
    assert targets == "gap (eV), dipole (D), charges (e)"
    assert elements == "H C N O"
    assert int(size.replace(",", "")) > 1000


def test_a_hub_id_is_downloaded_without_anything_that_is_unpickled(hub, folder):
    assert value(molformer.load("someone/model")) == value(molformer.load(folder))
    assert all(pattern.endswith((".json", ".safetensors", ".md")) for pattern in hub["download"]["allow_patterns"])
    Predictor.from_pretrained("someone/model", revision="v1", token="secret")
    assert hub["download"]["revision"] == "v1"
    assert hub["download"]["token"] == "secret"
    with pytest.raises(ModelError, match="no folder 'no/where', and no such model on the hub: 404: no repository"):
        molformer.load("no/where")


def test_a_misspelt_folder_is_not_looked_for_in_the_net(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelError, match="no model folder at 'runs/dmeo'"):
        molformer.load("runs/dmeo")
    assert "download" not in hub


def test_without_the_hub_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'molformer\[hub\]'"):
        molformer.load("someone/model")


def test_a_saved_model_comes_back(folder, tmp_path):
    predictor = molformer.load(folder)
    predictor.save_pretrained(tmp_path / "saved")
    back = Predictor.from_pretrained(tmp_path / "saved")
    assert value(back) == value(predictor)
    assert back.model.targets == tuple(TARGETS)


def test_a_saved_ensemble_comes_back_as_one(members, tmp_path):
    predictor = molformer.load(members)
    predictor.save_pretrained(tmp_path)
    back = molformer.load(tmp_path)
    assert len(back.models) == 3
    assert value(back) == pytest.approx(value(predictor), abs=1e-6)


def test_a_model_card_goes_along(folder, tmp_path):
    from shutil import copytree

    copytree(folder, tmp_path / "first")
    (tmp_path / "first" / "README.md").write_text("a card")
    molformer.load(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert (tmp_path / "second" / "README.md").read_text() == "a card"


def test_a_model_is_put_on_the_hub(hub, folder):
    address = molformer.load(folder).push_to_hub("me/mine", private=True, token="secret")
    assert address == "https://hub/me/mine/commit/1"
    assert hub["repo"] == ("me/mine", True)
    assert hub["token"] == "secret"
    assert hub["files"] == ["config.json", "model.safetensors"]
