"""Limits of requests, and a server that lives on after what is wrong with them."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from molformer.data.readers import Entry
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import row_of
from molformer.serving import batcher
from molformer.serving.limits import Limits
from molformer.serving.service import Service
from tests.helpers import random_structure
from tests.serving.conftest import WATER, listening

ETHANOL = {"molecules": ["CCO"]}


def test_too_large_a_body_is_refused(strict_client):
    for path in ("/predict", "/predict/file", "/explain", "/nowhere"):
        assert strict_client.post(path, content=b"x" * 3000).status_code == 413, path
    answer = strict_client.post("/predict", content=iter([b"[" * 1000] * 5))  # without a stated length
    assert answer.status_code == 413
    assert "2000 bytes" in answer.json()["detail"]


def test_a_packed_file_may_not_unpack_to_more(strict_client):
    import gzip

    bomb = gzip.compress(b"C" * 10**6)
    row = strict_client.post("/predict/file", files={"file": ("bomb.smi.gz", bomb)}).json()["rows"][0]
    assert row["status"] == "invalid_input"
    assert "larger than allowed" in row["message"]


def test_too_many_molecules_are_refused(strict_client):
    answer = strict_client.post("/predict", json={"molecules": ["C"] * 4})
    assert answer.status_code == 413
    assert "may hold 3 molecules" in answer.json()["detail"]
    assert strict_client.post("/predict/file", files={"file": ("many.smi", "C\n" * 50)}).status_code == 413


def test_too_large_a_molecule_is_a_row(strict_client):
    rows = strict_client.post("/predict", json={"molecules": ["CCCC", "C" * 60, "C"]}).json()["rows"]
    assert [row["status"] for row in rows] == ["too_large", "too_large", "ok"]
    assert "14 atoms, more than the 10" in rows[0]["message"]
    assert "60 characters, more than the 50" in rows[1]["message"]
    big = "11\n\n" + "".join(f"C {index} 0 0\n" for index in range(11))
    assert strict_client.post("/predict", json={"molecules": [big]}).json()["rows"][0]["status"] == "too_large"


def test_what_takes_too_long_is_given_up(predictor, monkeypatch):
    def slow(*arguments):
        time.sleep(1.5)
        return row_of(*arguments)

    monkeypatch.setattr(batcher, "row_of", slow)
    with listening(Service(predictor, "slow", Limits(seconds=0.7), processes=1)) as client:
        answer = client.post("/predict", json={"molecules": [WATER]})
        assert answer.status_code == 504
        assert "no answer in 0.7 s" in answer.json()["detail"]
        assert client.get("/health").status_code == 200
        assert "molformer_waiting_molecules 0.0" in client.get("/metrics").text


def test_work_of_a_client_that_left_is_given_up(predictor, monkeypatch):
    computed, go = [], threading.Event()

    def waiting(job, *arguments):
        go.wait(30)
        computed.append(job.entry.name)
        return row_of(job, *arguments)

    monkeypatch.setattr(batcher, "row_of", waiting)
    service = Service(predictor, "left", Limits(max_batch_delay=0.0), processes=1)
    with ThreadPoolExecutor(1) as pool, listening(service) as client:
        first = pool.submit(client.post, "/predict", json={"molecules": [WATER]})
        wait_for(lambda: service.batcher.pass_seconds() > 0)
        body = json.dumps({"molecules": ["3\n\nO 0 0 0\nO 1.2 0 0\nO 1.9 1 0\n"] * 3}).encode()
        with socket.create_connection((client.base_url.host, client.base_url.port)) as wire:
            wire.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
            wire.sendall(b"content-length: %d\r\n\r\n%b" % (len(body), body))
            wait_for(lambda: "molformer_waiting_molecules 4.0" in service.metrics.text().decode())
        wait_for(lambda: "molformer_waiting_molecules 1.0" in service.metrics.text().decode())
        go.set()
        assert first.result().status_code == 200
        assert client.post("/predict", json={"molecules": [WATER]}).status_code == 200
        assert 'molformer_requests_total{path="/predict",status="499"} 1.0' in client.get("/metrics").text
    assert computed == ["H2O", "H2O"]


def test_a_connection_that_never_finishes_a_header_is_closed(predictor):
    with listening(Service(predictor, "slow", Limits(header_seconds=0.5), processes=1)) as client:
        address = client.base_url.host, client.base_url.port
        for sent in (b"", b"GET /health HTTP/1.1\r\nhost: local"):
            with socket.create_connection(address, timeout=20) as wire:
                wire.sendall(sent)
                start = time.monotonic()
                with contextlib.suppress(ConnectionResetError):
                    assert wire.recv(100) == b""
                assert 0.3 < time.monotonic() - start < 10
        with socket.create_connection(address, timeout=20) as wire:  # letter by letter, after a whole request
            wire.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert wire.recv(10_000).startswith(b"HTTP/1.1 200")
            with pytest.raises(OSError, match=r"reset|[Bb]roken"):
                drip(wire)


def test_a_request_that_takes_longer_than_a_header_may_is_answered(predictor, monkeypatch):
    def slow(*arguments):
        time.sleep(1)
        return row_of(*arguments)

    monkeypatch.setattr(batcher, "row_of", slow)
    with listening(Service(predictor, "slow", Limits(header_seconds=0.2), processes=1)) as client:
        assert client.post("/predict", json={"molecules": [WATER]}).status_code == 200


def test_foreign_host_names_are_refused(predictor):
    with listening(Service(predictor, "named", processes=1), {"localhost", "molecules.example"}) as client:
        port = client.base_url.port

        def status(host):
            return client.get("/health", headers={"host": host}).status_code

        for own in ("localhost", f"LOCALHOST:{port}", "127.0.0.1", f"127.0.0.1:{port}", "molecules.example"):
            assert status(own) == 200, own
        for foreign in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example"):
            assert status(foreign) == 400, foreign
        answer = client.get("/health", headers={"host": "evil.example"})
        assert "names another server" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        '{"molecules": ["C"], "targets": [' + ", ".join(['"gap"'] * 10**6) + "]}",
        '{"molecules": ["C"], "targets": [' + ", ".join(["1"] * 10**6) + "]}",
        '{"molecules": [' + ", ".join(["1"] * 10**6) + "]}",
        '{"molecules": ["C"], "unit": {' + ", ".join(f'"t{index}": "eV"' for index in range(400_000)) + "}}",
        "{" + ", ".join(f'"k{index}": 1' for index in range(500_000)) + "}",
    ],
    ids=["names", "numbers", "molecules", "units", "keys"],
)
def test_a_million_names_are_refused_at_once(client, body):
    start = time.monotonic()
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.text) < 1000
    assert time.monotonic() - start < 5


def test_a_name_that_is_given_twice_is_one_target(client):
    rows = client.post("/predict", json={"molecules": ["C"], "targets": ["gap"] * 500}).json()["rows"]
    assert list(rows[0]["values"]) == ["gap"]


def test_a_model_that_never_returns_is_no_good_health(predictor, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(batcher, "row_of", lambda *arguments: go.wait(30))
    service = Service(predictor, "stuck", Limits(seconds=0.5), processes=1)
    with listening(service) as client:
        assert client.get("/health").status_code == 200
        job = predictor.runner.job(Entry("molecule", structure=random_structure(5)))
        service.batcher.submit(job, PredictionRequest.of(predictor.model.targets))
        wait_for(lambda: client.get("/health").status_code == 503)
        go.set()


def drip(wire):
    for _ in range(100):
        wire.sendall(b"G")
        time.sleep(0.1)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


MALFORMED = [
    b"",
    b"\r\n\r\n",
    b"\x00\xff\xfe" * 100,
    b"GET\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{",
    b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
]
BODIES = [
    b"",
    b"null",
    b"{",
    b"[" * 5000,
    b'{"molecules": 3}',
    b'{"molecules": [null]}',
    b'{"molecules": ["C"], "conformers": NaN}',
    b'{"molecules": ["C"], "conformers": 1e999}',
    b'{"molecules": ["\\ud800"]}',
    b'{"molecules": ["\\u0000"]}',
    b'{"molecules": ["\xff"]}',
    b'{"molecules": ["3\\n\\nH nan 0 0\\n"]}',
    b'{"molecules": ["999999999\\n\\nH 0 0 0\\n"]}',
    b'{"molecules": ["x\\n\\n\\n  1  0\\nM  END\\n"]}',
    b'{"molecules": ["' + b"(" * 1900 + b'"]}',
    b'{"molecules": ["C' + b"1" * 1900 + b'"]}',
]


def test_the_server_answers_after_a_burst_of_malformed_requests(client):
    host, port = client.base_url.host, client.base_url.port
    for _ in range(2):
        for raw in MALFORMED:
            with socket.create_connection((host, port), timeout=5) as wire:
                try:
                    wire.sendall(raw)
                except OSError:
                    continue  # it was refused before it was whole
        for body in BODIES:
            answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400, 413, 422), body[:60]
            assert "detail" in answer.json() or answer.json()["rows"][0]["status"] != "ok"
        for name, content in (("a.npz", b"PK"), ("a.sdf", b"\xff"), ("", b""), ("a.smi.gz", b"x"), ("a.parquet", b"x")):
            answer = client.post("/predict/file", files={"file": (name, content)})
            assert answer.status_code in (200, 400, 422), name
        assert client.post("/predict/file", content=b"--x", headers={"content-type": "multipart/form-data"}).is_error
    row = client.post("/predict", json=ETHANOL).json()["rows"][0]
    assert row["status"] == "ok"


def test_a_server_that_is_told_to_end_answers_what_is_in_flight(predictor, monkeypatch):
    def slow(*arguments):
        time.sleep(0.3)
        return row_of(*arguments)

    monkeypatch.setattr(batcher, "row_of", slow)
    service = Service(predictor, "ending", processes=1)
    with ThreadPoolExecutor(1) as pool:
        with listening(service) as client:
            answer = pool.submit(client.post, "/predict", json={"molecules": [WATER]})
            while "molformer_waiting_molecules 1.0" not in service.metrics.text().decode():
                time.sleep(0.01)
        assert answer.result().json()["rows"][0]["status"] == "ok"
        with (
            pytest.raises(ConnectionError, match="refused"),
            socket.create_connection((client.base_url.host, client.base_url.port)),
        ):
            pass


def test_what_comes_while_too_much_waits_is_turned_away(predictor, monkeypatch):
    def slow(*arguments):
        time.sleep(0.3)
        return row_of(*arguments)

    monkeypatch.setattr(batcher, "row_of", slow)
    service = Service(predictor, "busy", Limits(waiting=1), processes=1)
    with ThreadPoolExecutor(1) as pool, listening(service) as client:
        first = pool.submit(client.post, "/predict", json={"molecules": [WATER]})
        while "molformer_waiting_molecules 1.0" not in service.metrics.text().decode():
            time.sleep(0.01)
        second = client.post("/predict", json={"molecules": [WATER]})
        assert second.status_code == 503
        assert second.headers["retry-after"] == "5"
        assert first.result().status_code == 200
        assert client.post("/predict", json={"molecules": [WATER]}).status_code == 200
