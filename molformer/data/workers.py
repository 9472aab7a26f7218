"""Processes that compute geometries from SMILES, or descriptors from structures.

Workers are plain processes that import RDKit and numpy and nothing of the program that started them, so scripts need
no `if __name__ == "__main__"` and notebooks work. Each is driven by a thread of this process through its standard
input and output. A worker ends when its input does: with the process that started it, however that ends.
Starting one takes longer than some dozen geometries, so those of a pool that is done can wait a minute for another.
"""

import atexit
import contextlib
import faulthandler
import hashlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, BinaryIO, Self, cast

from molformer.data.conformers import ConformerPolicy, canonical_smiles, embed_canonical
from molformer.data.structure import Structure
from molformer.errors import ConformerError, MolformerError

SPARE_SECONDS = 60.0
"""How long a worker that nobody needs waits for another pool."""

Outcome = Structure | tuple[Structure, ...] | MolformerError
"""What becomes of one SMILES: its geometry, or all that were made, or an error.

The message of a `ConformerError` is the rest of a sentence that begins with the SMILES.
"""


class WorkerDied(ConformerError):
    """A molecule that ended the process that computed it."""


def group_of(canonical: str) -> int:
    """The group of a molecule: the same for all its rows, so that a split never parts them."""
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:7])


def outcome_of(policy: ConformerPolicy, is_canonical: bool, smiles: str) -> Outcome:
    """The geometry of a SMILES, or the error that says why there is none."""
    try:
        canonical = smiles if is_canonical else canonical_smiles(smiles, policy.add_hydrogens)
        return embed_canonical(canonical, policy)[0].annotated(group=group_of(canonical))
    except MolformerError as error:
        return error


def outcomes_of(policy: ConformerPolicy, smiles: str) -> Outcome:
    """All geometries that a policy makes of a SMILES, or the error that says why there is none."""
    try:
        return tuple(embed_canonical(canonical_smiles(smiles, policy.add_hydrogens), policy))
    except MolformerError as error:
        return error


class WorkerPool:
    """Processes that apply a function to each of a list, such as of SMILES; one that dies is replaced.

    Args:
        function: importable by its name in another process, or a `functools.partial` of such a function.
        processes: how many; they start when they are needed.
        limit: seconds for one, after which its worker ends itself.
        spare: let idle workers wait for another pool of the same function and limit when this one is closed.
    """

    def __init__(self, function: Callable[[Any], Outcome], processes: int, limit: float, spare: bool = False) -> None:
        self._spare = spare
        self._start_message = pickle.dumps((function, limit))
        self._limit = limit
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="embedding")
        self._local = threading.local()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, smiles: list[Any]) -> "Future[list[Outcome]]":
        """Outcomes of a list, in its order, once a worker has computed them."""
        return self._threads.submit(self._run, smiles)

    def close(self) -> None:
        """End all workers at once, or those that compute; what they were computing is lost."""
        with self._lock:
            self._closed = True
            idle = [worker for worker in self._workers if self._spare and worker not in self._busy]
            for worker in self._workers:
                if worker not in idle:
                    worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            if worker in idle:
                _SPARE.give(self._start_message, worker)
            else:
                _bury(worker)
        self._workers.clear()

    def _run(self, smiles: list[Any]) -> list[Outcome]:
        if not smiles:
            return []
        worker = self._worker()
        with self._lock:
            if self._closed:
                raise CancelledError
            self._busy.add(worker)
        try:
            _send(worker.stdin, smiles)
            reply = _receive(worker.stdout)
            self._busy.discard(worker)
        except (EOFError, OSError, pickle.UnpicklingError):
            status = self._lost(worker)
            if len(smiles) > 1:  # find out which it was
                return [outcome for one in smiles for outcome in self._run([one])]
            return [WorkerDied(_reason(status, self._limit))]
        if isinstance(reply, BaseException):
            raise reply
        return cast(list[Outcome], reply)

    def _worker(self) -> "subprocess.Popen[bytes]":
        """The worker of this thread; started if there is none."""
        worker = getattr(self._local, "worker", None)
        if worker is not None:
            return worker
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
        self._workers: list[tuple[bytes, subprocess.Popen[bytes]]] = []
        self._owner = os.getpid()

    def give(self, start_message: bytes, worker: "subprocess.Popen[bytes]") -> None:
        """Let a worker wait; at the end of the program, when no thread can be started any more, end it."""
        if sys.is_finalizing():
            _bury(worker)
            return
        given = (start_message, worker)
        with self._lock:
            self._workers.append(given)
        timer = threading.Timer(SPARE_SECONDS, self._end, [given])
        timer.daemon = True
        timer.start()

    def take(self, start_message: bytes) -> "subprocess.Popen[bytes] | None":
        """One that was started so and lives, if there is one; not in a process that was forked, which shares them."""
        if os.getpid() != self._owner:
            return None
        with self._lock:
            for place, (message, worker) in enumerate(self._workers):
                if message == start_message and worker.poll() is None:
                    return self._workers.pop(place)[1]
        return None

    def end(self) -> None:
        """End all."""
        with self._lock:
            everyone = list(self._workers)
        for each in everyone:
            self._end(each)

    def _end(self, given: tuple[bytes, "subprocess.Popen[bytes]"]) -> None:
        with self._lock:
            left = [each for each in self._workers if each is not given]
            taken = len(left) == len(self._workers)
            self._workers = left
        if not taken:
            _bury(given[1])


_SPARE = Spare()
atexit.register(_SPARE.end)


def serve() -> None:
    """What a worker process does until its input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints gets between the replies
    function, limit = pickle.loads(_receive(requests))
    _send(replies, "ready")
    queue: SimpleQueue[list[str]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, queue), daemon=True).start()
    with open(os.devnull, "wb") as nowhere:
        while True:
            smiles = queue.get()
            try:
                reply: object = [_within(limit, function, one, nowhere) for one in smiles]
            except Exception as error:  # a defect: raised by the process that asked
                reply = error
            _send(replies, reply)


def _listen(requests: BinaryIO, queue: "SimpleQueue[list[str]]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            queue.put(_receive(requests))
    os._exit(0)


def _within(limit: float, function: Callable[[str], Outcome], smiles: str, nowhere: BinaryIO) -> Outcome:
    """Apply the function; end the process if that takes too long, wherever it is, and be it in C++."""
    faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)
    try:
        return function(smiles)
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


def _reason(status: int, limit: float) -> str:
    advice = "give its coordinates in an XYZ file"
    if status == 1:  # from faulthandler
        return f"could not be embedded in 3-D (it took more than {limit:.0f} s): {advice}"
    return f"could not be embedded in 3-D (its process ended with status {status}): {advice}"


def _send(pipe: Any, message: object) -> None:
    pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _receive(pipe: Any) -> Any:
    return pickle.load(pipe)
