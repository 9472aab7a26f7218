"""Molecules of several requests go through the model together."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from molformer.data.readers import Entry
from molformer.inference import batches
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import row_of
from molformer.serving import batcher as batcher_module
from molformer.serving.batcher import Batcher
from tests.helpers import random_structure


@pytest.fixture
def passes(monkeypatch):
    """Numbers of structures and names of targets of each pass of the model; the first one waits for `go`."""
    seen, go, run = [], threading.Event(), batches.run

    def counting(model, structures, targets):
        if not seen:
            seen.append(None)
            go.wait(60)
            seen.pop()
        seen.append((len(structures), [target.name for target in targets]))
        return run(model, structures, targets)

    monkeypatch.setattr(batches, "run", counting)
    seen_and_go = seen, go
    return seen_and_go


def _jobs(predictor, count):
    entries = [Entry(f"molecule {index}", structure=random_structure(5, seed=index)) for index in range(count)]
    return [predictor.runner.job(entry) for entry in entries]


def test_what_waits_is_computed_in_one_pass(predictor, passes):
    seen, go = passes
    known = predictor.model.targets
    requests = [
        PredictionRequest.of(known, ["gap"]),
        PredictionRequest.of(known, ["charges"]),
        PredictionRequest.of(known, ["gap"], "meV"),
    ]
    batcher = Batcher(predictor, max_batch_delay=0.0)
    first, *jobs = _jobs(predictor, 10)
    rows = [batcher.submit(first, requests[0])]
    while not seen:
        pass
    rows += [batcher.submit(job, requests[index % 3]) for index, job in enumerate(jobs)]
    go.set()
    found = [row.result(60) for row in rows]
    batcher.close()
    assert seen == [(1, ["gap"]), (9, ["gap", "charges"])]
    assert [row.name for row in found] == [f"molecule {index}" for index in range(10)]
    assert [list(row.values) for row in found[1:4]] == [["gap"], ["charges"], ["gap"]]
    for index, row in enumerate(found):
        expected = predictor.predict(random_structure(5, seed=index))[0]
        for name, value in row.values.items():
            factor = 1000 if value.unit == "meV" else 1
            np.testing.assert_allclose(value.value, factor * expected[name].value, rtol=1e-4, atol=1e-5)


def test_a_full_batch_is_not_exceeded(predictor, passes):
    seen, go = passes
    request = PredictionRequest.of(predictor.model.targets, ["gap"])
    batcher = Batcher(predictor, max_batch_delay=0.0)
    first, *jobs = _jobs(predictor, 2)
    rows = [batcher.submit(first, request)]
    while not seen:
        pass
    rows += [batcher.submit(jobs[0], request) for _ in range(predictor.runner.batch_size + 1)]
    go.set()
    batcher.close()
    assert all(row.done() for row in rows)
    assert [count for count, _ in seen] == [1, predictor.runner.batch_size, 1]


def test_a_row_that_is_given_up_is_not_computed(predictor, passes):
    seen, go = passes
    request = PredictionRequest.of(predictor.model.targets)
    batcher = Batcher(predictor, max_batch_delay=0.0)
    jobs = _jobs(predictor, 3)
    rows = [batcher.submit(jobs[0], request)]
    while not seen:
        pass
    rows += [batcher.submit(job, request) for job in jobs[1:]]
    assert rows[1].cancel()
    go.set()
    batcher.close()
    assert rows[2].result().status == "ok"
    assert [count for count, _ in seen] == [1, 1]


def test_one_that_cannot_be_computed_spares_the_others(predictor, monkeypatch, caplog):
    run = batches.run

    def failing(model, structures, targets):
        if any(len(structure) == 7 for structure in structures):
            raise RuntimeError("out of memory")
        return run(model, structures, targets)

    monkeypatch.setattr(batches, "run", failing)
    request = PredictionRequest.of(predictor.model.targets)
    batcher = Batcher(predictor, max_batch_delay=0.2)
    bad = predictor.runner.job(Entry("bad", structure=random_structure(7)))
    rows = [batcher.submit(job, request) for job in (*_jobs(predictor, 2), bad)]
    assert [row.result(60).status for row in rows[:2]] == ["ok", "ok"]
    with pytest.raises(RuntimeError, match="out of memory"):
        rows[2].result(60)
    batcher.close()


def test_threads_leave_the_cores_alone_that_workers_have(predictor, monkeypatch):
    seen, run = [], batches.run

    def recording(*arguments):
        seen.append(torch.get_num_threads())
        return run(*arguments)

    monkeypatch.setattr(batches, "run", recording)
    cores, request = torch.get_num_threads(), PredictionRequest.of(predictor.model.targets)
    for busy in (0, 1, 5):
        batcher = Batcher(predictor, busy=lambda busy=busy: busy)
        batcher.submit(*_jobs(predictor, 1), request).result(60)
        batcher.close()
    assert seen == [cores, max(1, cores - 1), max(1, cores - 5)]


def test_small_molecules_have_their_share_beside_large_ones(predictor, monkeypatch):
    order, go = [], threading.Event()

    def recording(job, *arguments):
        go.wait(30)
        time.sleep(0.1 if "large" in job.entry.name else 0.02)
        order.append(job.entry.name.split()[0])
        return row_of(job, *arguments)

    monkeypatch.setattr(batcher_module, "row_of", recording)
    monkeypatch.setattr(batcher_module, "LARGE_EDGES", 100)
    request, batcher = PredictionRequest.of(predictor.model.targets), Batcher(predictor, max_batch_delay=0.0)
    monkeypatch.setattr(predictor.runner, "batch_size", 1)
    first = batcher.submit(_jobs(predictor, 1)[0], request)
    large = [predictor.runner.job(Entry("large", structure=random_structure(15))) for _ in range(3)]
    rows = [first, *(batcher.submit(job, request) for job in (*large, *_jobs(predictor, 60)))]
    go.set()
    for row in rows:
        row.result(60)
    batcher.close()
    first, second, _ = (place for place, name in enumerate(order) if name == "large")
    assert first < 2
    assert second - first > 4  # three quarters of the time
    assert "molecule" in order[second:]  # nor do they wait until all small ones are done


def test_fifty_clients_at_once(client):
    smiles = ["CCO", "C1CC", "O", "CC(=O)N", "c1ccccc1"]

    def ask(index):
        molecules = [smiles[index % 5], smiles[(index + 1) % 5]]
        answer = client.post("/predict", json={"molecules": molecules, "targets": ["gap"]})
        return molecules, answer.status_code, answer.json()["rows"]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    values = {}
    for molecules, status, rows in answers:
        assert status == 200
        assert [row["name"] for row in rows] == molecules
        for row in rows:
            assert row["status"] == ("invalid_input" if row["name"] == "C1CC" else "ok")
            if row["values"]:
                values.setdefault(row["name"], []).append(row["values"]["gap"]["value"])
    assert len(values) == 4
    for same in values.values():
        assert np.ptp(same) < 1e-5
