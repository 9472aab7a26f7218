import shutil
from dataclasses import replace

import pytest
import torch

from molformer.errors import ConfigError, ModelError
from molformer.inference import models
from molformer.models import PropertyModel
from molformer.training.run import train
from tests.helpers import small_config
from tests.training.test_run import training


@pytest.fixture(scope="module")
def source(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "source"
    return train(small_config(num_layers=2, channels=4), training(store, folder, targets=["energy"], epochs=2))


def encoders(source, result):
    """Weights of the encoder before and after."""
    before = PropertyModel.load(source.model).encoder.state_dict()
    return before, PropertyModel.load(result.model).encoder.state_dict()


def test_the_encoder_is_initialised_and_heads_are_new(source, store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1, initial=str(source.folder))
    result = train(small_config(channels=8), settings)
    model = PropertyModel.load(result.model)
    assert model.config.channels == 4  # the encoder's own sizes count
    assert [target.name for target in model.targets] == ["gap"]
    before, after = encoders(source, result)
    changes = {key: (before[key] - after[key]).abs().max().item() for key in before}
    assert all(change < 3e-3 for change in changes.values())  # a few steps at a tenth of the rate
    assert max(changes.values()) > 0


def test_a_run_starts_from_a_shipped_model_by_its_name(source, store, tmp_path, monkeypatch):
    shutil.copytree(source.model, tmp_path / "shipped" / "small")
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "shipped")
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1, initial="small", freeze=2)
    before, after = encoders(source, train(small_config(), settings))
    frozen = [key for key in before if key.startswith("blocks.")]
    assert frozen
    assert all(torch.equal(before[key], after[key]) for key in frozen)


def test_a_run_does_not_start_from_an_ensemble(source, store, tmp_path):
    for member in ("member-0", "member-1"):
        shutil.copytree(source.model, tmp_path / "ensemble" / member)
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1, initial=str(tmp_path / "ensemble"))
    with pytest.raises(ModelError, match="is an ensemble: choose one of its folders"):
        train(small_config(), settings)


def test_heads_of_the_same_targets_are_initialised(source, store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap", "energy"], epochs=1, initial=str(source.folder))
    settings = replace(settings, learning_rate=1e-6)
    result = train(small_config(), settings)
    before, after = (PropertyModel.load(run.model).head("energy").net for run in (source, result))
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_head_of_another_kind_is_new_and_the_log_says_so(source, store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap=extensive", "energy"], epochs=1)
    settings = replace(settings, initial=str(source.folder), learning_rate=1e-6)
    result = train(small_config(), settings)
    model = PropertyModel.load(result.model)
    assert [target.kind for target in model.targets] == ["extensive", "extensive"]
    said = f"from {source.folder}: the encoder and heads of: energy; new heads: gap\n"
    assert said in (result.folder / "train.log").read_text()
    both = replace(settings, targets=["gap=vector_length", "energy"], run=str(tmp_path / "again"))
    again = train(small_config(), replace(both, initial=str(result.folder)))
    assert "heads of: energy; new heads: gap\n" in (again.folder / "train.log").read_text()
    ours, theirs = (PropertyModel.load(run.model).head("energy").net[0].weight for run in (again, source))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_heads_of_another_pooling_are_new(store, tmp_path):
    first = training(store, tmp_path / "first", targets=["gap"], epochs=1, pooling="attention")
    source = train(small_config(num_layers=1, channels=4), first)
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1, initial=str(source.folder), pooling="mean")
    assert PropertyModel.load(train(small_config(), settings).model).pooling == "mean"


def test_frozen_layers_stay_as_they_are(source, store, tmp_path):
    settings = training(store, tmp_path / "run", targets=["gap"], epochs=1, initial=str(source.model), freeze=1)
    before, after = encoders(source, train(small_config(), settings))
    frozen = ("species.", "edges.", "blocks.0.")
    for key, value in before.items():
        if key.startswith(frozen):
            assert torch.equal(value, after[key]), key
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("blocks.1."))


def test_a_start_that_is_not_there_is_refused(source, store, tmp_path):
    with pytest.raises(ModelError, match="there is no model folder at 'nowhere'"):
        train(small_config(), training(store, tmp_path / "run", targets=["gap"], initial="nowhere"))
    with pytest.raises(ConfigError, match="freeze is for a run that starts from a trained model"):
        training(store, tmp_path / "run", targets=["gap"], freeze=2)
    with pytest.raises(ConfigError, match="9 blocks are to be frozen and the encoder has 2"):
        train(small_config(), training(store, tmp_path / "run", targets=["gap"], initial=str(source.model), freeze=9))
