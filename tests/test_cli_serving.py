"""`molformer serve` in a process of its own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.test_cli import model, molformer  # noqa: F401 - `model` is a fixture


@contextlib.contextmanager
def started(model, *options):  # noqa: F811
    """The address of a server, and its process."""
    command = [sys.executable, "-m", "molformer", "serve", "--model", str(model), "--port", "0", "--processes", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *options], env=environment, **streams)
    try:
        line = process.stdout.readline()
        assert "gap (eV)" in line
        yield re.search(r"http://127\.0\.0\.1:\d+", line)[0], process
    finally:
        process.kill()
        process.communicate()


def test_it_prints_its_address_answers_and_ends_on_a_signal(model):  # noqa: F811
    with started(model) as (address, server):
        rows = httpx.post(f"{address}/predict", json={"molecules": ["CCO"]}, timeout=60).json()["rows"]
        assert rows[0]["status"] == "ok"
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
        assert (server.returncode, errors) == (0, "")


FROZEN = """
import ctypes, sys, time
from molformer.inference.predictor import Predictor
from molformer.serving import batcher
from molformer.serving.limits import Limits
from molformer.serving.server import serve
from molformer.serving.service import Service

def hang(*arguments):
    {hang}

batcher.CLOSE_SECONDS = 1.0
batcher.row_of = Service._explanation = hang
serve(Service(Predictor.load(sys.argv[1], "cpu"), "frozen", Limits(seconds=2), 1), port=0)
"""


@pytest.mark.parametrize(
    ("hang", "path", "number"),
    [
        ("time.sleep(600)", "predict", signal.SIGTERM),
        ("time.sleep(600)", "predict", signal.SIGINT),
        ("time.sleep(600)", "explain", signal.SIGINT),
        ("ctypes.PyDLL(None).sleep(600)", "predict", signal.SIGTERM),  # never gives the interpreter back
    ],
)
def test_it_ends_in_bounded_time_whatever_the_model_does(model, hang, path, number):  # noqa: F811
    command = [sys.executable, "-u", "-c", FROZEN.format(hang=hang), str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        water = "3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
        with contextlib.suppress(httpx.TimeoutException):
            asked = {"molecules": [water]} if path == "predict" else {"molecule": water}
            httpx.post(f"{address}/{path}", json=asked, timeout=5)
        process.send_signal(number)
        try:
            process.communicate(timeout=40)
        finally:
            process.kill()


def test_names_of_hosts_are_allowed_one_by_one(model):  # noqa: F811
    with started(model, "--allow-host", "molecules.example") as (address, _):
        for host, status in (("molecules.example", 200), ("localhost", 200), ("evil.example", 400)):
            assert httpx.get(f"{address}/health", headers={"host": host}).status_code == status, host


def test_what_cannot_be_served_is_said_in_one_line(model):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = molformer("serve", "--model", model, "--port", port)
    assert result.returncode == 2
    assert result.stderr == (
        f"molformer: cannot listen at 127.0.0.1, port {port}: Address already in use; choose another --port or --host\n"
    )
    result = molformer("serve", "--model", "nowhere")
    assert result.returncode == 2
    assert "no model folder at 'nowhere'" in result.stderr
