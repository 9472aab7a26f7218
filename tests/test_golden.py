"""What an earlier version wrote is still read, and predicts the same."""

import json

import numpy as np

from molformer.data.store import StructureStore
from molformer.inference import Predictor
from tests.golden.make import FOLDER, TARGETS, WATER


def test_the_golden_model_still_predicts_the_same():
    prediction = Predictor.load(FOLDER / "model").predict(WATER)[0]
    expected = json.loads((FOLDER / "predictions.json").read_text())
    assert set(expected) == set(prediction.values)
    for name, value in expected.items():
        assert np.allclose(prediction[name].value, value, atol=1e-4), name


def test_the_golden_store_is_still_read():
    store = StructureStore(FOLDER / "store")
    store.verify()
    assert list(store.labels.values()) == TARGETS
    assert np.allclose(store[0].pos, WATER.pos)
    assert store[0].labels["gap"] == 9.0
