"""`molformer serve` in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.test_cli import model, molformer  # noqa: F401 - `model` is a fixture


@pytest.fixture
def server(model):  # noqa: F811
    command = [sys.executable, "-m", "molformer", "serve", "--model", str(model), "--port", "0", "--processes", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    yield process
    process.kill()
    process.communicate()


def test_it_says_where_it_listens_answers_and_ends_when_told(server):
    line = server.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
    assert "gap (eV)" in line
    rows = httpx.post(f"{address}/predict", json={"molecules": ["CCO"]}, timeout=60).json()["rows"]
    assert rows[0]["status"] == "ok"
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert (server.returncode, errors) == (0, "")


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
