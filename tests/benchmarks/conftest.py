import json
from dataclasses import asdict

import pytest
import torch

from benchmarks import machine, own
from benchmarks.peers import protocol


@pytest.fixture
def in_this_process(monkeypatch):
    """Measure here instead of in new processes, each of which would import everything again."""

    def run(command, environment=None, timeout=None):
        assert command[-2] == "benchmarks.own"
        return asdict(protocol.measure(protocol.Request(**json.loads(command[-1])), own.build))

    threads = torch.get_num_threads()
    monkeypatch.setattr(machine, "run", run)
    monkeypatch.setattr(machine, "reach", lambda *_: machine.Reach(1e11, 1e10))
    yield
    torch.set_num_threads(threads)
