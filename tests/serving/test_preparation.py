"""Workers of the server: a fair order, limits, and an end of what nobody waits for."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from molformer.data.conformers import ConformerPolicy
from molformer.data.readers import Entry
from molformer.data.workers import WorkerDied, WorkerPool
from molformer.serving import preparation, reading
from molformer.serving.fairness import Client
from molformer.serving.limits import Limits
from molformer.serving.preparation import Embed, Lane, Preparation

GIB = 2**30


def act(task):
    """What a worker of these tests does."""
    if task.what == "hang":
        time.sleep(60)
    if task.what == "fill":
        return len(bytearray(3 * GIB))
    return os.getpid()


@dataclass(frozen=True)
class Task:
    what: str
    cost: float = 1.0


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@pytest.fixture
def lane():
    with WorkerPool(act, 1, limit=30.0, memory=GIB) as pool:
        yield Lane(pool, 1)


def test_a_task_with_too_much_memory_ends_its_worker_and_no_more(lane):
    async def both():
        first = await lane.run(Task("fill"), Client())
        return first, await lane.run(Task("pid"), Client())

    died, process = run(both())
    assert isinstance(died, WorkerDied)
    assert died.reason == "it needed more memory than it may have"
    assert process > 0


def test_what_nobody_waits_for_is_given_up(lane, monkeypatch):
    monkeypatch.setattr(preparation, "GRACE_SECONDS", 0.1)

    async def leave_and_ask():
        before = await lane.run(Task("pid"), Client())
        hanging = asyncio.ensure_future(lane.run(Task("hang"), Client()))
        waiting = asyncio.ensure_future(lane.run(Task("hang"), Client()))
        await asyncio.sleep(0.3)
        hanging.cancel()
        waiting.cancel()
        return before, await lane.run(Task("pid"), Client())

    start = time.monotonic()
    before, after = run(leave_and_ask())
    assert before != after
    assert time.monotonic() - start < 20
    assert lane._free == 1


def test_a_worker_that_has_stopped_does_not_keep_the_pool_from_closing():
    with WorkerPool(act, 1, limit=30.0) as pool:
        os.kill(pool.submit([Task("pid")]).result()[0], signal.SIGSTOP)
        future = pool.submit([Task("pid")])
        time.sleep(0.2)
        start = time.monotonic()
        pool.close()
        assert time.monotonic() - start < 5
        assert future.done()


def test_a_client_with_many_tasks_lets_others_go_before(lane):
    done = []

    async def ask():
        async def one(name):
            await lane.run(Task("pid"), Client((name, 1)))
            done.append(name)

        await asyncio.gather(*map(one, "aaaaab"))

    run(ask())
    assert "".join(done) == "aabaaa"


def test_what_seemed_small_is_begun_anew_by_the_workers_for_large(monkeypatch):
    monkeypatch.setattr(preparation, "run_task", _slow)
    monkeypatch.setattr(preparation, "SMALL_SECONDS", 1.0)
    workers = Preparation(ConformerPolicy(), 1, Limits(seconds=30))
    try:
        assert run(workers._run(Embed("C", 1), Client())) == "done"
    finally:
        workers.close()


def _slow(policy, limits, task):
    time.sleep(2)
    return "done"


def test_an_upload_that_needs_too_much_is_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "run_task", _greedy)
    workers = Preparation(ConformerPolicy(), 1, Limits(seconds=30, memory=GIB))
    try:
        entries = run(workers.entries_of_file(b"1\n\nH 0 0 0\n", "../bomb.xyz", Client()))
    finally:
        workers.close()
    assert [entry.name for entry in entries] == ["bomb.xyz"]
    message = "'bomb.xyz' cannot be read: it needed more memory than it may have; send it in parts"
    assert str(entries[0].error) == message


def _greedy(policy, limits, task):
    return act(Task("fill"))


def test_workers_start_fast_because_they_do_not_import_torch():
    code = "import sys, molformer.serving.preparation; print('torch' in sys.modules, 'fastapi' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False"]


def test_an_upload_on_which_a_reader_fails_is_a_row(tmp_path, monkeypatch, caplog):
    def failing(path, options):
        yield Entry(str(path), smiles="C")
        raise ZeroDivisionError("by what the file says")

    monkeypatch.setattr(reading, "read_file", failing)
    first, second = reading.read_upload(tmp_path / "upload.xyz", "odd.xyz", Limits())
    assert (first.name, first.error) == ("odd.xyz", None)
    assert str(second.error) == "'odd.xyz' cannot be read to its end: it is damaged"
    assert "a reader failed: ZeroDivisionError: by what the file says" in caplog.text


def test_the_cost_of_a_geometry_grows_with_the_cube_of_its_heavy_atoms():
    def cost(smiles, conformers=1):
        return Embed(smiles, conformers).cost - Embed("", 1).cost

    assert cost("CC(=O)[O-]" * 10) == pytest.approx(1000 * cost("CC(=O)[O-]"))
    assert cost("ClBr") == cost("CC")
    assert cost("CC", 20) == pytest.approx(20 * cost("CC"))
    assert Embed("CCO", 1).cost < 5
    assert Embed("NCC(=O)" * 30 + "O", 1).cost > 5000
