"""The data of the training tests."""

from tests.training.conftest import store as store
