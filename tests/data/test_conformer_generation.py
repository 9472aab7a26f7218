import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from molformer.data import conformer_generation, geometry_cache, workers
from molformer.data.conformer_generation import with_geometry
from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.data.geometry_cache import GeometryCache
from molformer.data.readers import Entry
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Structure
from molformer.data.workers import WorkerDied, WorkerPool, outcome_of
from molformer.errors import ConformerError, InputError, StoreError

SMILES = ["CCO", "OCC", "C1CC", "c1ccccc1", "C1#CC1", "CCO.C", "[He]", "", "C[C@H](F)Cl", "*C", "O"] * 3


def entries(smiles=SMILES):
    given = Structure([1], [[0, 0, 0]], name="given")
    yield Entry("given", structure=given)
    for row, text in enumerate(smiles, start=1):
        yield Entry(text, where=f"set.csv, line {row}", smiles=text, labels={"gap": np.array(float(row))})
    yield Entry("bad", error=InputError("bad row"))


def plain(entry):
    """What can be compared of an entry."""
    if entry.structure is None:
        return entry.name, entry.where, type(entry.error), str(entry.error)
    made = entry.structure
    labels = {name: value.tolist() for name, value in made.labels.items()}
    parts = made.numbers.tolist(), made.pos.tolist(), made.charge, made.spin, made.smiles, made.name, made.geometry
    return entry.name, entry.where, labels, parts


def slow(smiles):
    if smiles == "hang":
        time.sleep(60)
    if smiles == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if smiles == "defect":
        raise ZeroDivisionError("a defect")
    if smiles == "modules":
        return InputError(",".join(sys.modules))
    print("noise")
    return InputError(f"{smiles} by {os.getpid()}")


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def serial():
    return [plain(entry) for entry in with_geometry(entries())]


def test_every_entry_has_a_geometry_or_a_reason_with_its_place(serial):
    made = list(with_geometry(entries()))
    assert [entry.name for entry in made] == ["given", *SMILES, "bad"]
    assert made[1].structure.smiles == "CCO"
    assert made[1].structure.name == "set.csv, line 1"
    assert float(made[1].structure.labels["gap"]) == 1
    assert np.array_equal(made[1].structure.pos, made[2].structure.pos)
    assert np.array_equal(made[1].structure.pos, embed_smiles("CCO").pos)
    assert str(made[3].error).startswith("set.csv, line 3: 'C1CC' is not a SMILES")
    assert str(made[5].error).startswith("set.csv, line 5: 'C1#CC1' could not be embedded in 3-D (most often")
    assert str(made[6].error).startswith("set.csv, line 6: 'CCO.C' has 2 separate parts")
    assert str(made[8].error) == "set.csv, line 8: the SMILES is empty"


@pytest.mark.parametrize("processes", [1, 2])
def test_parallel_is_serial(serial, processes):
    assert [plain(entry) for entry in with_geometry(entries(), processes=processes)] == serial


@pytest.mark.parametrize("processes", [0, 2])
def test_a_cache_changes_nothing(serial, tmp_path, monkeypatch, processes):
    for _ in range(2):
        assert [plain(entry) for entry in with_geometry(entries(), processes=processes, cache=tmp_path)] == serial
    monkeypatch.setattr(workers, "embed_canonical", lambda *_: pytest.fail("it was computed again"))
    assert [plain(entry) for entry in with_geometry(entries(), processes=0, cache=tmp_path)] == serial


def test_another_spelling_is_a_hit_and_another_policy_is_not(tmp_path, monkeypatch):
    list(with_geometry([Entry("a", smiles="OCC")], cache=tmp_path))
    monkeypatch.setattr(workers, "embed_canonical", lambda *_: pytest.fail("it was computed again"))
    (entry,) = with_geometry([Entry("b", where="row", smiles="C(C)O")], cache=tmp_path)
    assert (entry.structure.smiles, entry.structure.name) == ("C(C)O", "row")
    with pytest.raises(pytest.fail.Exception):
        list(with_geometry([Entry("b", smiles="OCC")], ConformerPolicy(seed=1), cache=tmp_path))


def test_failures_are_cached_with_their_reason(tmp_path):
    (first,) = with_geometry([Entry("a", smiles="C1#CC1")], cache=tmp_path)
    (file,) = tmp_path.glob("*/*.json")
    assert list(json.loads(file.read_text())) == ["C1#CC1"]
    (second,) = with_geometry([Entry("a", smiles="C1#CC1")], cache=tmp_path)
    assert str(first.error) == str(second.error)
    assert isinstance(second.error, ConformerError)


def test_what_may_be_otherwise_next_time_is_not_cached(tmp_path):
    with GeometryCache(tmp_path, ConformerPolicy()) as cache:
        cache.put("C", WorkerDied("it died"))
        cache.put("CC", InputError("no SMILES"))
        assert len(cache) == 0
    assert not list(tmp_path.glob("*/*"))


def test_a_cache_is_written_while_it_is_filled_and_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(geometry_cache, "SHARD", 2)
    policy = ConformerPolicy()
    made = {smiles: embed_smiles(smiles) for smiles in ("C", "CC", "CCC")}
    with GeometryCache(tmp_path, policy) as one, GeometryCache(tmp_path, policy) as other:
        for cache in (one, other):
            for smiles, structure in made.items():
                cache.put(smiles, structure)
        assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
        assert np.array_equal(one.get("C").pos, made["C"].pos)
    again = GeometryCache(tmp_path, policy)
    assert len(again) == 3
    assert np.array_equal(again.get("CCC").pos, made["CCC"].pos)
    assert again.get("CCCC") is None


def test_a_cache_keeps_what_was_made_before_an_interruption(tmp_path):
    made = with_geometry(entries(["C", "CC", "CCC"]), cache=tmp_path)
    list(itertools.islice(made, 3))
    made.close()
    assert len(GeometryCache(tmp_path, ConformerPolicy())) == 2


def test_a_damaged_file_of_a_cache_is_left_out(tmp_path, caplog):
    list(with_geometry(entries(["C", "C1#CC1"]), cache=tmp_path))
    for file in list(tmp_path.glob("*/*")):
        file.write_bytes(file.read_bytes()[:-10])
    assert len(GeometryCache(tmp_path, ConformerPolicy())) == 0
    assert caplog.text.count("of the cache is skipped") == 2


def test_a_cache_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        next(with_geometry(entries(), cache=tmp_path / "file"))


def test_entries_are_read_only_a_window_ahead():
    read = []

    def endless():
        for row in itertools.count():
            read.append(row)
            yield Entry(str(row), smiles="C")

    for processes in (0, 1):
        read.clear()
        made = with_geometry(endless(), processes=processes)
        names = [next(made).name for _ in range(60)]
        made.close()
        assert names == [str(row) for row in range(60)]
        assert len(read) - 60 <= processes * conformer_generation.CHUNK * (conformer_generation.WINDOW + 1)


def test_entries_that_need_nothing_start_no_process(monkeypatch):
    monkeypatch.setattr(workers, "_start", lambda: pytest.fail("a process was started"))
    assert len(list(with_geometry(entries([]), processes=2))) == 2


def test_a_molecule_that_takes_too_long_is_given_up_and_the_others_are_not():
    with WorkerPool(slow, 1, limit=1.0) as pool:
        first = pool.submit(["a", "hang", "b"]).result()
        assert isinstance(first[1], WorkerDied)
        assert "it took more than 1 s" in str(first[1])
        assert [str(outcome)[:4] for outcome in (first[0], first[2])] == ["a by", "b by"]


def test_a_molecule_that_crashes_its_process_is_an_error_of_its_own():
    with WorkerPool(slow, 1, limit=20.0) as pool:
        first = pool.submit(["a", "crash"]).result()
        assert "its process ended with status -9" in str(first[1])
        assert str(first[0]).startswith("a by")
        assert str(pool.submit(["c"]).result()[0]).startswith("c by")


def test_a_worker_that_is_killed_while_it_is_idle_is_replaced():
    with WorkerPool(slow, 1, limit=20.0) as pool:
        process = int(str(pool.submit(["a"]).result()[0]).split()[-1])
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: not alive(process))
        time.sleep(
            0.5
        )  # its main thread may be gone before the others, without which the system does not report its end
        assert str(pool.submit(["b"]).result()[0]).startswith("b by")


def test_a_time_out_reaches_the_row(monkeypatch):
    monkeypatch.setattr(conformer_generation, "outcome_of", _hang_at_ethane)
    monkeypatch.setattr(conformer_generation, "time_limit", lambda policy: 1.0)
    made = list(with_geometry(entries(["C", "CC", "O"]), processes=1))
    assert [entry.structure is not None for entry in made] == [True, True, False, True, False]
    assert str(made[2].error).startswith("set.csv, line 2: 'CC' could not be embedded in 3-D (it took more than 1 s)")


def _hang_at_ethane(policy, is_canonical, smiles):
    return slow("hang") if smiles == "CC" else embed_smiles(smiles)


def test_a_defect_is_raised_here():
    with WorkerPool(slow, 1, limit=20.0) as pool, pytest.raises(ZeroDivisionError):
        pool.submit(["defect"]).result()


def test_workers_import_what_they_need_and_no_more():
    with WorkerPool(slow, 1, limit=20.0) as pool:
        modules = str(pool.submit(["modules"]).result()[0]).split(",")
    assert "rdkit" in modules
    code = "import sys; import molformer.data.workers; print(*sys.modules)"
    alone = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "lightning", "ase", "safetensors", "__mp_main__"} & set(alone)


def test_a_worker_that_cannot_start_is_a_defect_and_not_an_error_of_every_row(monkeypatch, capfd):
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    with WorkerPool(slow, 1, limit=20.0) as pool, pytest.raises(RuntimeError, match="could not start"):
        pool.submit(["C"]).result()
    assert "Error" in capfd.readouterr().err


def test_closing_ends_the_workers_at_once():
    before = set(threading.enumerate())  # a server of other tests may be alive
    pool = WorkerPool(slow, 2, limit=60.0)
    processes = {int(str(pool.submit([name]).result()[0]).split()[-1]) for name in "ab"}
    future = pool.submit(["hang"])
    wait_until(future.running)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 5
    assert not any(map(alive, processes))
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("embedding")]


def test_idle_workers_wait_for_another_pool_of_the_same_function_and_limit(monkeypatch):
    def process(pool, task="a"):
        return int(str(pool.submit([task]).result()[0]).split()[-1])

    with WorkerPool(slow, 1, limit=30.0, spare=True) as pool:
        first = process(pool)
    with WorkerPool(slow, 1, limit=31.0, spare=True) as pool:
        assert process(pool) != first
    with WorkerPool(slow, 1, limit=30.0) as pool:
        assert process(pool) != first
    monkeypatch.setattr(workers, "SPARE_SECONDS", 0.5)
    with WorkerPool(slow, 1, limit=30.0, spare=True) as pool:
        assert process(pool) == first
    wait_until(lambda: not alive(first))
    with WorkerPool(slow, 1, limit=30.0, spare=True) as pool:
        second = process(pool)
        assert alive(second)
        hanging = pool.submit(["hang"])
        wait_until(hanging.running)
    assert not alive(second)  # it was computing
    workers._SPARE.end()


SCRIPT = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    from molformer.data.conformer_generation import with_geometry
    from molformer.data.readers import Entry
    for entry in with_geometry((Entry("x", smiles="CC(=O)Nc1ccc(O)cc1") for _ in iter(int, 1)), processes=2):
        print(entry.structure.formula, flush=True)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_program_and_scripts_need_no_guard(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        for _ in range(40):
            assert program.stdout.readline() == b"C8H9NO2\n"
        workers = children(program.pid)
        assert len(workers) == 2
        program.send_signal(how)
        program.communicate(timeout=20)
    wait_until(lambda: not any(map(alive, workers)))


def children(parent):
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(process))
        except OSError:
            continue
    return found


def test_two_programs_may_fill_one_cache_at_once(tmp_path):
    code = (
        "import sys; from molformer.data.conformer_generation import with_geometry; "
        "from molformer.data.readers import Entry; "
        "list(with_geometry([Entry(s, smiles=s) for s in ('C', 'CC', 'C1#CC1', 'CCO')], cache=sys.argv[1]))"
    )
    programs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [program.wait() for program in programs] == [0, 0]
    cache = GeometryCache(tmp_path, ConformerPolicy())
    assert len(cache) == 4
    assert np.array_equal(cache.get("CCO").pos, embed_smiles("CCO").pos)


def test_the_policy_reaches_every_way(tmp_path):
    policy = ConformerPolicy("etkdg", seed=3)
    for options in ({}, {"processes": 1}, {"cache": tmp_path}):
        (entry,) = with_geometry([Entry("C", smiles="CCO")], policy, **options)
        assert entry.structure.geometry == "etkdg"
        assert np.array_equal(entry.structure.pos, embed_smiles("CCO", policy).pos)
        (entry,) = with_geometry([Entry("C", smiles="CCO")], replace(policy, method="given"), **options)
        assert str(entry.error).startswith("'CCO' has no coordinates")


def test_what_goes_to_a_worker_is_small():
    assert len(pickle.dumps(partial(outcome_of, ConformerPolicy(), False))) < 1000


def test_a_program_that_an_error_ends_does_end():
    """What it leaves is only cleared away when no thread can be started any more, as none is for a spare worker."""
    code = textwrap.dedent(
        """
        from molformer.data.conformer_generation import with_geometry
        from molformer.data.readers import Entry

        entries = with_geometry([Entry(name, smiles="CCO") for name in "abcdef"], processes=2)
        next(entries)
        raise ValueError("an error")
        """
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "ValueError: an error")


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("cached", [False, True])
def test_salts_are_as_the_policy_says_with_a_cache_of_another_policy_too(tmp_path, processes, cached):
    cache = tmp_path / "cache" if cached else None
    for salts, formula in (("refuse", None), ("largest", "C2H6O"), ("keep", "C2H8O2"), ("refuse", None)):
        entries = [Entry("salt", smiles="CCO.O", labels={"y": 1.0}), Entry("bad", smiles="C(.C")]
        salt, bad = with_geometry(entries, ConformerPolicy(salts=salts), processes, cache)
        assert (salt.structure and salt.structure.formula) == formula
        assert isinstance(bad.error, InputError)
        assert formula or "take the largest with --salts largest" in str(salt.error)


def test_geometries_of_an_older_cache_get_their_bonds(tmp_path):
    def made():
        (entry,) = with_geometry([Entry("a", smiles="C[NH3+]")], cache=tmp_path)
        return entry.structure

    first = made()
    with GeometryCache(tmp_path, ConformerPolicy()) as cache:
        (store,) = cache.folder.glob("*.safetensors")
        bare = [replace(structure, molecular_graph=None) for structure in StructureStore(store)]
        write_store(store, bare, source=cache.source)
    again = made()
    assert np.array_equal(again.pos.astype(np.float32), first.pos.astype(np.float32))
    for name, value in vars(first.molecular_graph).items():
        assert np.array_equal(getattr(again.molecular_graph, name), value)
