import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from molformer.data.structure import Label
from molformer.errors import ModelError
from molformer.inference import Predictor
from molformer.models import Domain, PropertyModel
from molformer.uncertainty.calibration import Calibration
from tests.helpers import small_model

TARGETS = [Label("gap", "eV", "intensive"), Label("energy", "eV", "extensive"), Label("forces", "eV/Å", "forces")]


@pytest.fixture
def folder(tmp_path):
    model = small_model(TARGETS, torch.float32)
    model.domain = Domain((1, 6, 8), 20, ("given",))
    model.save(tmp_path / "model")
    return tmp_path / "model"


def change(folder, path, value):
    config = json.loads((folder / "config.json").read_text())
    part = config
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.species.weight"][3, 1] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"'encoder.species.weight' that is not a finite number"):
        PropertyModel.load(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["encoder", "channels"], 10**9, "no weight has so large a dimension"),
        (["encoder", "channels"], 16, "3 layers of 16 channels, its weights are 3 of 8"),
        (["encoder", "num_layers"], 900, "900 layers"),
        (["encoder", "edge_features"], 10**7, "no weight has so large a dimension"),
        (["encoder", "edge_features"], "16", "edge_features is '16'"),
        (["encoder", "lmax"], 2.0, "lmax is 2.0"),
        (["encoder", "lmax"], 7, "choose 0 to"),
        (["encoder", "qk_norm"], 1, "qk_norm is 1"),
        (["encoder"], [], "damaged"),
        (["targets"], 3, "damaged"),
        (["targets", 0, "kind"], "weird", "kind 'weird'"),
        (["targets", 0, "unit"], "eW", "unknown unit 'eW'"),
        (["pooling"], "men", "pooling is 'men'"),
        (["domain", "elements"], [900], "atomic number"),
        (["domain"], None, "damaged"),
        (["format"], "x", "not the configuration"),
        (["format"], 99, "install a newer molformer"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(folder, path, value, message):
    change(folder, path, value)
    with pytest.raises(ModelError, match=message) as caught:
        PropertyModel.load(folder)
    assert "\n" not in str(caught.value)


def calibration(width, **changes):
    values = {"half_widths": {"gap": 0.1}, "level": 0.9, "references": np.zeros((3, width)), "mean": np.zeros(width)}
    values |= {"scale": np.ones(width), "distances": np.arange(30.0)}
    return Calibration(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": np.full((3, 24), np.nan)}, "not finite"),
        ({"mean": np.zeros(3)}, "do not fit each other"),
        ({"half_widths": {"gap": np.nan}}, "not finite"),
        ({"half_widths": {"gap": -1.0}}, "intervals or references"),
        ({"level": 2.0}, "intervals or references"),
        ({"scale": np.zeros(24)}, "a scale not positive"),
    ],
)
def test_a_reference_that_is_none_is_refused(folder, changes, message):
    calibration(24, **changes).save(folder)
    with pytest.raises(ModelError, match=message):
        Calibration.load(folder)


def test_the_reference_of_another_model_is_refused(folder):
    calibration(PropertyModel.load(folder).num_features + 1).save(folder)
    with pytest.raises(ModelError, match="do not belong together"):
        Predictor.load(folder, "cpu")
