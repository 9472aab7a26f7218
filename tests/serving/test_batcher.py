"""Molecules of several requests go through the model together."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from molformer.data.readers import Entry
from molformer.inference import batches
from molformer.inference.request import PredictionRequest
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
    questions = [
        PredictionRequest.of(known, ["gap"]),
        PredictionRequest.of(known, ["charges"]),
        PredictionRequest.of(known, ["gap"], "meV"),
    ]
    batcher = Batcher(predictor, linger=0.0)
    first, *jobs = _jobs(predictor, 10)
    rows = [batcher.submit(first, questions[0])]
    while not seen:
        pass
    rows += [batcher.submit(job, questions[index % 3]) for index, job in enumerate(jobs)]
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
    question = PredictionRequest.of(predictor.model.targets, ["gap"])
    batcher = Batcher(predictor, linger=0.0)
    first, *jobs = _jobs(predictor, 2)
    rows = [batcher.submit(first, question)]
    while not seen:
        pass
    rows += [batcher.submit(jobs[0], question) for _ in range(predictor.runner.batch_size + 1)]
    go.set()
    batcher.close()
    assert all(row.done() for row in rows)
    assert [count for count, _ in seen] == [1, predictor.runner.batch_size, 1]


def test_a_row_that_is_given_up_is_not_computed(predictor, passes):
    seen, go = passes
    question = PredictionRequest.of(predictor.model.targets)
    batcher = Batcher(predictor, linger=0.0)
    jobs = _jobs(predictor, 3)
    rows = [batcher.submit(jobs[0], question)]
    while not seen:
        pass
    rows += [batcher.submit(job, question) for job in jobs[1:]]
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
    question = PredictionRequest.of(predictor.model.targets)
    batcher = Batcher(predictor, linger=0.2)
    bad = predictor.runner.job(Entry("bad", structure=random_structure(7)))
    rows = [batcher.submit(job, question) for job in (*_jobs(predictor, 2), bad)]
    assert [row.result(60).status for row in rows[:2]] == ["ok", "ok"]
    with pytest.raises(RuntimeError, match="out of memory"):
        rows[2].result(60)
    batcher.close()


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
