"""A model, a service and a server that listens, for the tests of prediction over HTTP."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import torch

from molformer.data.structure import Label
from molformer.inference.predictor import Predictor
from molformer.models import Domain, PropertyModel
from molformer.serving.limits import Limits
from molformer.serving.server import make_server
from molformer.serving.service import Service
from tests.helpers import moved, small_config

TARGETS = [
    Label("gap", "eV", "intensive"),
    Label("energy", "eV", "extensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
]
WATER = "3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


@pytest.fixture(scope="session")
def predictor():
    torch.manual_seed(0)
    domain = Domain((1, 6, 7, 8), 20, ("etkdg+mmff", "given"))
    return Predictor(moved(PropertyModel(small_config(num_layers=1), TARGETS, domain=domain)))


@contextmanager
def listening(service, hosts=None):
    """A client of a server that runs in a thread."""
    server = make_server(service, hosts)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as ear:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [ear]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        address = f"http://127.0.0.1:{ear.getsockname()[1]}"
        limits = httpx.Limits(max_connections=None)
        with httpx.Client(base_url=address, timeout=120, limits=limits) as client:
            try:
                yield client
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture(scope="session")
def client(predictor):
    """Of a server with the limits that it has by default."""
    with listening(Service(predictor, "small", processes=1)) as client:
        yield client


@pytest.fixture(scope="session")
def strict_client(predictor):
    """Of a server with low limits."""
    limits = Limits(body=2000, molecules=3, atoms=10, characters=50, waiting=4)
    with listening(Service(predictor, "small", limits, processes=1)) as client:
        yield client
