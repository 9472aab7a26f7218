import builtins

import pytest
import yaml

from molformer.errors import ConfigError
from molformer.training.tune import Range, tune
from tests.helpers import small_config


@pytest.fixture
def config(store, tmp_path):
    values = {"data": store, "targets": ["gap"], "epochs": 2, "wandb": "off", "device": "cpu", "ema_decay": 0.9}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values | small_config(num_layers=1).to_dict()))
    return str(path)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_finds_the_better_setting_and_goes_on_where_it_stopped(config, tmp_path):
    ranges = [Range.parse("learning_rate=0.000001,0.01")]
    lines = []
    tune(config, [], ranges, 2, tmp_path / "search", lines.append)
    study = tune(config, [], ranges, 4, tmp_path / "search", lines.append)
    assert len(lines) == len(study.trials) == 4
    assert study.best_params == {"learning_rate": "0.01"}
    assert f"validation loss {study.best_value:.4f}" in lines[study.best_trial.number]
    assert len(list((tmp_path / "search").glob("trial-*/model/model.safetensors"))) == 4


def test_bad_searches_are_refused(config, tmp_path, monkeypatch):
    for text, message in (
        ("colour=1:2", "unknown key"),
        ("epochs=many", "not KEY=LOW:HIGH"),
        ("epochs=5:2", "empty range"),
    ):
        with pytest.raises(ConfigError, match=message):
            Range.parse(text)
    with pytest.raises(ConfigError, match="nothing is varied"):
        tune(config, [], [], 2, tmp_path / "search")
    real = builtins.__import__

    def without_optuna(name, *args, **kwargs):
        if name.startswith("optuna"):
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_optuna)
    with pytest.raises(ConfigError, match=r"molformer\[tune\]"):
        tune(config, [], [Range.parse("epochs=1:3")], 2, tmp_path / "search")
