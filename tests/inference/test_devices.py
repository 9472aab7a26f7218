"""Several devices give all rows, in order, with the numbers of one."""

import os
import signal
import time

import numpy as np
import pytest

import molformer
from molformer.data.readers import Entry
from molformer.errors import ConfigError, ModelError
from molformer.inference.devices import Devices, device_names
from tests.helpers import random_structure


def test_two_processes_give_the_rows_of_one(members):
    inputs = ["CCO", "nonsense", "C", "CBr", *["CO", "CCC", "N", "C1CC"] * 6, "O"]
    one = molformer.load(members[:2]).predict(inputs)
    spread = molformer.load(members[:2], "cpu", batch_size=3, devices=2)
    assert spread.devices == ("cpu", "cpu")
    two = spread.predict(inputs, processes=0)
    assert [(row.name, row.status, row.message) for row in two] == [(row.name, row.status, row.message) for row in one]
    for first, second in zip(one, two, strict=True):
        for name, value in first.values.items():
            np.testing.assert_allclose(second[name].value, value.value, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(second[name].ensemble_std, value.ensemble_std, rtol=1e-3, atol=1e-5)


def test_devices_that_are_not_there_are_refused(folder):
    most = os.cpu_count()
    with pytest.raises(ConfigError, match=f"this machine has {most} of 'cpu': use 1 to {most}"):
        molformer.load(folder, "cpu", devices=most + 1)
    with pytest.raises(ConfigError, match="devices is 0"):
        device_names("cpu", 0)


def test_a_process_that_ends_is_an_error_and_no_missing_row(folder, tmp_path):
    predictor = molformer.load(folder)
    jobs = [predictor.runner.job(Entry("molecule", structure=random_structure()))]
    with (
        Devices([tmp_path / "gone"], ["cpu"], 4, 1.0) as devices,
        pytest.raises(ModelError, match="process of a device ended"),
    ):
        list(devices.computed([jobs, jobs], predictor.model.targets))


def test_a_process_that_hangs_does_not_keep_the_program_from_ending(folder):
    predictor = molformer.load(folder)
    jobs = [predictor.runner.job(Entry("molecule", structure=random_structure()))]
    devices = Devices([folder], ["cpu"], 4, 1.0)
    list(devices.computed([jobs], predictor.model.targets))
    (process,) = devices._pools[0]._processes
    os.kill(process, signal.SIGSTOP)
    devices._pools[0].submit(os.getpid)
    start = time.monotonic()
    devices.__exit__(KeyboardInterrupt)
    assert time.monotonic() - start < 10
