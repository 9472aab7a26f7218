"""Processes that compute geometries or descriptors, or read files for the server, with limits of time and memory.

Workers are plain processes that import RDKit and numpy and nothing of the program that started them, so scripts need
no `if __name__ == "__main__"` and notebooks work. Each is driven by a thread of this process through its standard
input and output. A worker ends when its input does: with the process that started it, however that ends.
Starting one takes longer than some dozen geometries, so those of a pool that is done can wait a minute for another.
"""

import atexit
import contextlib
import errno
import faulthandler
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, BinaryIO, cast
from weakref import WeakKeyDictionary

from molformer.data.conformers import ConformerPolicy, canonical_smiles, embed_canonical
from molformer.errors import ConformerError, MolformerError
from molformer.structure import Structure

SPARE_SECONDS = 60.0  # time that an idle worker waits for another pool, s

Outcome = Structure | tuple[Structure, ...] | MolformerError
"""What becomes of one SMILES: its geometry, or all that were made, or an error.

The message of a `ConformerError` is the rest of a sentence that begins with the SMILES.
"""


class WorkerDied(ConformerError):
    """A molecule whose worker process died; `reason` describes how."""

    reason = ""


def outcome_of(policy: ConformerPolicy, is_canonical: bool, smiles: str) -> Outcome:
    """The conformer of a SMILES, or its error."""
    outcome = outcomes_of(policy, is_canonical, smiles)
    return outcome[0] if isinstance(outcome, tuple) else outcome


def outcomes_of(policy: ConformerPolicy, is_canonical: bool, smiles: str) -> Outcome:
    """All conformers of a SMILES, or its error."""
    try:
        canonical = smiles if is_canonical else canonical_smiles(smiles, policy.add_hydrogens)
        return tuple(embed_canonical(canonical, policy))
    except MolformerError as error:
        return error


class WorkerPool(AbstractContextManager["WorkerPool"]):
    """Processes that apply a function to lists of SMILES, or of other tasks; one that dies is replaced.

    The function is importable by its name in another process, or a `functools.partial` of such. A worker ends itself if
    a SMILES takes more than `limit` seconds, or, as far as the system can tell, more than `memory` bytes, unless that
    is 0. With `spare`, idle workers wait for another pool of the same function and limits when this one is closed.
    """

    def __init__(
        self, function: Callable[[Any], Any], processes: int, limit: float, spare: bool = False, memory: int = 0
    ) -> None:
        self._spare = spare
        self._start_message = pickle.dumps((function, limit, memory))
        self._limit = limit
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="embedding")
        self._local = threading.local()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._computing: WeakKeyDictionary[Future[list[Any]], list[subprocess.Popen[bytes]]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._closed = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, smiles: list[Any]) -> "Future[list[Any]]":
        """Future of the outcomes of a list of SMILES, in order."""
        given: list[subprocess.Popen[bytes]] = []
        future = self._threads.submit(self._run, smiles, given)
        self._computing[future] = given
        return future

    def stop(self, future: "Future[list[Any]]") -> None:
        """Give up a list of one task; a worker that computes it is ended."""
        future.cancel()
        with self._lock:
            for worker in self._computing.get(future, ()):
                worker.kill()

    def close(self) -> None:
        """Terminate all workers, or those that are busy, with loss of their tasks."""
        with self._lock:
            self._closed = True
            idle = [worker for worker in self._workers if self._spare and worker not in self._busy]
            for worker in self._workers:
                if worker not in idle:
                    worker.kill()
        # A generator that holds the pool may be collected in one of its own threads, which cannot wait for itself.
        own = getattr(self._local, "worker", None) is not None
        self._threads.shutdown(wait=not own, cancel_futures=True)
        for worker in self._workers:
            if worker in idle:
                _SPARE.give(self._start_message, worker)
            else:
                _bury(worker)
        self._workers.clear()

    def _run(self, smiles: list[Any], given: "list[subprocess.Popen[bytes]]") -> list[Any]:
        if not smiles:
            return []
        worker = self._worker()
        with self._lock:
            if self._closed:
                raise CancelledError
            self._busy.add(worker)
            given.append(worker)
        try:
            _send(worker.stdin, smiles)
            reply = _receive(worker.stdout)
            self._busy.discard(worker)
        except (EOFError, OSError, pickle.UnpicklingError):
            status = self._lost(worker)
            if len(smiles) > 1:  # find out which it was
                return [outcome for one in smiles for outcome in self._run([one], given)]
            return [_died(status, self._limit)]
        finally:
            with self._lock:
                given.clear()
        if isinstance(reply, BaseException):
            raise reply
        return cast(list[Any], reply)

    def _worker(self) -> "subprocess.Popen[bytes]":
        """The worker of this thread; started if there is none."""
        worker = getattr(self._local, "worker", None)
        if worker is not None:
            if worker.poll() is None:
                return worker
            self._lost(worker)  # while it was idle: not the fault of what it would be given
        with self._lock:
            if self._closed:
                raise CancelledError
            spare = _SPARE.take(self._start_message) if self._spare else None
            worker = spare or _start()
            self._workers.append(worker)
        if spare is not None:
            self._local.worker = spare
            return spare
        try:
            _send(worker.stdin, self._start_message)
            _receive(worker.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            status = self._lost(worker)
            raise RuntimeError(f"a worker process could not start: it ended with status {status}") from None
        self._local.worker = worker
        return worker

    def _lost(self, worker: "subprocess.Popen[bytes]") -> int:
        """Exit status of a worker that is gone."""
        self._local.worker = None
        self._busy.discard(worker)
        with self._lock:
            if self._closed:
                raise CancelledError
            self._workers.remove(worker)
        return _bury(worker)


class Spare:
    """Idle workers by what they were started with, until they are taken or their time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[subprocess.Popen[bytes], bytes] = {}
        self._owner = os.getpid()

    def give(self, start_message: bytes, worker: "subprocess.Popen[bytes]") -> None:
        """Let a worker wait; at the end of the program, when no thread can be started any more, end it."""
        if sys.is_finalizing():
            _bury(worker)
            return
        with self._lock:
            self._workers[worker] = start_message
        timer = threading.Timer(SPARE_SECONDS, self._end, [worker])
        timer.daemon = True
        timer.start()

    def take(self, start_message: bytes) -> "subprocess.Popen[bytes] | None":
        """One that was started so and lives, if there is one; not in a process that was forked, which shares them."""
        if os.getpid() != self._owner:
            return None
        with self._lock:
            for worker, message in self._workers.items():
                if message == start_message and worker.poll() is None:
                    del self._workers[worker]
                    return worker
        return None

    def end(self) -> None:
        """End all."""
        with self._lock:
            everyone = list(self._workers)
        for each in everyone:
            self._end(each)

    def _end(self, worker: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            taken = self._workers.pop(worker, None) is None
        if not taken:
            _bury(worker)


_SPARE = Spare()
atexit.register(_SPARE.end)


def serve() -> None:
    """Main loop of a worker process, until its input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints gets between the replies
    function, limit, memory = pickle.loads(_receive(requests))
    if memory and os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _send(replies, "ready")
    queue: SimpleQueue[list[Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, queue), daemon=True).start()
    with open(os.devnull, "wb") as nowhere:
        while True:
            smiles = queue.get()
            try:
                reply: object = [_within(limit, function, one, nowhere) for one in smiles]
            except Exception as error:  # a defect: raised by the process that asked
                reply = error
            _send(replies, reply)


def _listen(requests: BinaryIO, queue: "SimpleQueue[list[Any]]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            queue.put(_receive(requests))
    os._exit(0)


def _within(limit: float, function: Callable[[Any], Any], smiles: Any, nowhere: BinaryIO) -> Any:
    """Apply the function; end the process if that takes too long, wherever it is, and be it in C++, or too much."""
    faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)
    try:
        return function(smiles)
    except MemoryError:
        os._exit(errno.ENOMEM)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _start() -> "subprocess.Popen[bytes]":
    """A worker process, in a process group of its own: Ctrl-C reaches only the process that ends it."""
    path = [str(folder) for folder in sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from molformer.data.workers import serve; serve()"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **threads},
        process_group=0 if os.name == "posix" else None,
    )


def _bury(worker: "subprocess.Popen[bytes]") -> int:
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):
            cast(BinaryIO, pipe).close()
    try:
        return worker.wait(timeout=5)
    except subprocess.TimeoutExpired:  # its input has ended and it does not notice
        worker.kill()
        return worker.wait()


def _died(status: int, limit: float) -> WorkerDied:
    reasons = {1: f"it took more than {limit:.0f} s", errno.ENOMEM: "it needed more memory than it may have"}
    reason = reasons.get(status, f"its process ended with status {status}")  # 1 is from faulthandler
    error = WorkerDied(f"could not be embedded in 3-D ({reason}): give its coordinates in an XYZ file")
    error.reason = reason
    return error


def _send(pipe: Any, message: object) -> None:
    pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _receive(pipe: Any) -> Any:
    return pickle.load(pipe)
