"""From what a request holds to entries with geometries, in worker processes that outlive the requests.

What crashes RDKit or a reader, takes too long or too much memory costs a worker and not the server. Workers import this
module, which therefore imports nothing heavy.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from molformer.data.conformer_generation import with_outcome
from molformer.data.conformers import ConformerPolicy, canonical_smiles, embed_canonical, parse_smiles
from molformer.data.readers.entry import Entry
from molformer.data.workers import WorkerDied, WorkerPool
from molformer.errors import InputError, MolformerError, TooLargeError
from molformer.serving.fairness import Client, FairQueue
from molformer.serving.limits import Limits
from molformer.serving.reading import entry_of_line, name_and_suffix, named_by_formula, read_upload
from molformer.structure import Structure

LARGE_MS = 500.0  # estimated time of a task from which on it is computed by the workers for large ones
SMALL_SECONDS = 5.0  # after which a task that was thought to be small is begun anew by the workers for large ones
GRACE_SECONDS = 1.0  # for which a worker may still compute what nobody waits for: to start another worker takes as long

_ATOM = re.compile(r"\[[^\]]*\]|Br|Cl|[BCNOPSFIbcnops]")


@dataclass(frozen=True)
class Embed:
    """Make geometries of a SMILES."""

    smiles: str
    conformers: int

    @property
    def cost(self) -> float:
        """Estimated time, ms on one core: it grows with the cube of the heavy atoms."""
        return 2 + 0.005 * self.conformers * len(_ATOM.findall(self.smiles)) ** 3

    def run(self, policy: ConformerPolicy, limits: Limits) -> tuple[Structure, ...] | MolformerError:
        """The geometries, or the error that says why there are none."""
        try:
            atoms = parse_smiles(self.smiles).GetNumAtoms(onlyExplicit=False)
            if atoms > limits.atoms:
                message = f"'{self.smiles}' has {atoms} atoms, more than the {limits.atoms} that this server takes"
                raise TooLargeError(message)
            canonical = canonical_smiles(self.smiles, policy.add_hydrogens)
            return tuple(embed_canonical(canonical, replace(policy, num_conformers=self.conformers)))
        except MolformerError as error:
            return error


@dataclass(frozen=True)
class Read:
    """Read a file, whose messages call it `shown`."""

    path: Path
    size: int
    shown: str

    @property
    def cost(self) -> float:
        """Estimated time, ms."""
        return 5 + self.size / 5000

    def run(self, policy: ConformerPolicy, limits: Limits) -> list[Entry]:
        """Its entries."""
        return read_upload(self.path, self.shown, limits)


def run_task(policy: ConformerPolicy, limits: Limits, task: Embed | Read) -> Any:
    """What a worker does."""
    return task.run(policy, limits)


class Lane:
    """Workers for tasks of a kind, whose turn comes in fair order."""

    def __init__(self, pool: WorkerPool, processes: int) -> None:
        self.pool = pool
        self.processes = self._free = processes
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def run(self, task: Embed | Read, client: Client) -> Any:
        """The outcome of a task; when this is cancelled, its worker gives it up."""
        await self._turn(client, task.cost)
        loop = asyncio.get_running_loop()
        future = self.pool.submit([task])

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._release)

        future.add_done_callback(release)
        try:
            return (await asyncio.wrap_future(future))[0]
        except asyncio.CancelledError:
            loop.call_later(GRACE_SECONDS, self.pool.stop, future)
            raise

    def busy(self) -> int:
        """Number of workers that compute."""
        return self.processes - self._free

    async def _turn(self, client: Client, cost: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(turn, client, cost)
        if self._free:
            self._free -= 1
            self._release()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come
                self._release()
            raise

    def _release(self) -> None:
        """A worker is free: the next that still waits has its turn."""
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Preparation:
    """Worker processes that read uploads and make geometries, apart from their number by a policy; they start with
    `start`, or when they are needed. Half as many again are for what is large.
    """

    def __init__(self, policy: ConformerPolicy, processes: int, limits: Limits) -> None:
        self.policy, self.processes, self.limits = policy, processes, limits
        function, few = partial(run_task, policy, limits), max(1, processes // 2)
        seconds = min(SMALL_SECONDS, limits.seconds)
        self.small = Lane(WorkerPool(function, processes, seconds, memory=limits.memory), processes)
        self.large = Lane(WorkerPool(function, few, limits.seconds, memory=limits.memory), few)

    def start(self) -> None:
        """Start the processes, so that no request waits for them; returns at once."""
        for _ in range(self.processes):
            self.small.pool.submit([Embed("C", 1)])

    def busy(self) -> int:
        """Number of workers that compute."""
        return self.small.busy() + self.large.busy()

    async def entries_of_file(self, content: bytes, name: str, client: Client) -> list[Entry]:
        """Entries of an uploaded file, one more than allowed if it has too many.

        Raises:
            InputError: files of this kind cannot be read here.
        """
        shown, suffix = name_and_suffix(name)
        return await self._read(content, suffix, shown, client)

    async def entry_of_text(self, text: str, client: Client) -> Entry:
        """The entry of a SMILES, or of the content of an XYZ file or MOL block with one molecule."""
        line = entry_of_line(text, self.limits)
        if line is not None:
            return line
        content = text.encode("utf-8", "replace")
        entries = await self._read(content, ".mol" if b"M  END" in content else ".xyz", "the text", client)
        return named_by_formula(entries)

    async def with_geometry(self, entry: Entry, conformers: int, client: Client) -> Entry:
        """The entry with as many geometries as asked for; as it is if it has one already, or cannot have any."""
        if entry.structure is not None or entry.error is not None:
            return entry
        task = Embed(entry.smiles, max(conformers, self.policy.num_conformers))
        found = with_outcome(entry, await self._run(task, client))
        return replace(found, conformers=found.conformers[: conformers - 1])

    def close(self) -> None:
        """End the processes, whatever they do."""
        self.small.pool.close()
        self.large.pool.close()

    async def _read(self, content: bytes, suffix: str, shown: str, client: Client) -> list[Entry]:
        with TemporaryDirectory(prefix="molformer-") as folder:  # not the worker's: it may be ended at any time
            path = Path(folder) / f"upload{suffix}"
            path.write_bytes(content)
            found = await self._run(Read(path, len(content), shown), client)
        if not isinstance(found, WorkerDied):
            return found
        return [Entry(shown, error=InputError(f"'{shown}' cannot be read: {found.reason}; send it in parts"))]

    async def _run(self, task: Embed | Read, client: Client) -> Any:
        if task.cost < LARGE_MS:
            outcome = await self.small.run(task, client)
            if not isinstance(outcome, WorkerDied) or isinstance(task, Read):
                return outcome
        return await self.large.run(task, client)
