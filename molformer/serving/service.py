"""Service: what the server does for a request, apart from HTTP."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from molformer.data.readers import Entry
from molformer.errors import MolformerError
from molformer.inference.prediction import Prediction
from molformer.inference.predictor import Predictor
from molformer.inference.refinement import refined
from molformer.inference.request import PredictionRequest
from molformer.serving import schema
from molformer.serving.batcher import CLOSE_SECONDS, Batcher
from molformer.serving.fairness import Client
from molformer.serving.limits import Limits
from molformer.serving.metrics import Metrics
from molformer.serving.preparation import Preparation


class TooMuch(MolformerError):
    """A request that holds more than this server takes at once."""


class Busy(MolformerError):
    """A request that comes while too much is waiting."""


class Service:
    """Predictions for requests that come at the same time."""

    def __init__(
        self, predictor: Predictor, name: str, limits: Limits | None = None, processes: int | None = None
    ) -> None:
        self.predictor = predictor
        self.name = name
        self.limits = limits or Limits()
        self.metrics = Metrics()
        policy = predictor.policy()
        self.preparation = Preparation(policy, processes or os.cpu_count() or 1, self.limits)
        delay, observe = self.limits.max_batch_delay, self.metrics.passes.observe
        self.batcher = Batcher(predictor, delay, observe, self.preparation.busy)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="explanation")
        self._explaining: set[Future[schema.Explanation]] = set()
        self._waiting = 0
        self._in_progress: Counter[str] = Counter()  # requests by host

    async def predict(
        self,
        molecules: Sequence[str | Entry],
        request: PredictionRequest,
        conformers: int | None,
        address: tuple[str, int],
        geometry: str | None = None,
    ) -> list[Prediction]:
        """A row for every molecule, a text or an entry of a file, in their order.

        Without a number of conformers or a geometry they are those of the model, see `Domain`.

        Raises:
            ConfigError: the model cannot make the geometry.
            TooMuch: there are too many.
            Busy: too many are waiting already.
        """
        conformers = conformers or self.predictor.model.domain.conformers
        geometry = geometry or self.predictor.model.domain.geometry
        self.predictor.policy(geometry)
        with self._admitted(len(molecules), address) as client:
            async with asyncio.TaskGroup() as group:  # if one fails, the others are given up
                tasks = [
                    group.create_task(self._row(each, request, conformers, geometry, client)) for each in molecules
                ]
            rows = [task.result() for task in tasks]
        for row in rows:
            self.metrics.molecules.labels(row.status).inc()
        return rows

    async def entries_of_file(self, content: bytes, name: str, address: tuple[str, int]) -> list[Entry]:
        """Entries of an uploaded file.

        Raises:
            InputError: files of this kind cannot be read here.
            Busy: too many are waiting already.
        """
        with self._admitted(1, address) as client:
            return await self.preparation.entries_of_file(content, name, client)

    async def explain(self, molecule: str, address: tuple[str, int]) -> schema.Explanation:
        """Where in a molecule a prediction comes from.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        with self._admitted(1, address) as client:
            entry = await self.preparation.entry_of_text(molecule, client)
            found = await self.preparation.with_geometry(entry, 1, client)
            future = self._aside.submit(self._explanation, found)
            self._explaining.add(future)
            future.add_done_callback(self._explaining.discard)
            return await asyncio.wrap_future(future)

    def is_stuck(self) -> bool:
        """Whether the model has computed one batch for longer than a request may take."""
        return self.batcher.pass_seconds() > self.limits.seconds

    def close(self) -> bool:
        """Finish what waits, and end the processes and threads; whether all ended in time."""
        ended = self.batcher.close()
        self.preparation.close()
        self._aside.shutdown(wait=False, cancel_futures=True)
        return ended and not wait(set(self._explaining), CLOSE_SECONDS).not_done

    async def _row(
        self, molecule: str | Entry, request: PredictionRequest, conformers: int, geometry: str, client: Client
    ) -> Prediction:
        if isinstance(molecule, str):
            molecule = await self.preparation.entry_of_text(molecule, client)
        entry = await self.preparation.with_geometry(molecule, conformers, client)
        if geometry == "refined":
            entry = await asyncio.to_thread(lambda: next(refined(self.predictor.runner, [entry])))
        job = await asyncio.to_thread(self.predictor.runner.job, entry)  # descriptors of a large molecule take a second
        if job.error is not None:
            return Prediction(job.entry.name, job.error.status, str(job.error))  # type: ignore[arg-type]
        return await asyncio.wrap_future(self.batcher.submit(job, request, client))

    def _explanation(self, entry: Entry) -> schema.Explanation:
        job = self.predictor.runner.job(entry)
        if job.error is not None:
            raise job.error
        structure = job.structures[0]
        parts = self.predictor.contributions(structure, references=False)
        return schema.Explanation(
            geometry=schema.geometry_of(structure),
            contributions={name: schema.numbers(part) for name, part in parts.items()},
            units={target.name: target.unit for target in self.predictor.model.targets if target.name in parts},
            attention=self.predictor.attention(structure).received().tolist(),
        )

    @contextmanager
    def _admitted(self, count: int, address: tuple[str, int]) -> Iterator[Client]:
        if count > self.limits.molecules:
            raise TooMuch(f"a request may hold {self.limits.molecules} molecules: send the rest in another one")
        if self._waiting + count > self.limits.waiting:
            raise Busy(f"{self._waiting} molecules are waiting: try again later")
        host = address[0]
        self._in_progress[host] += 1
        self._waiting += count
        self.metrics.waiting.set(self._waiting)
        try:
            yield Client(address, self._in_progress[host])
        finally:
            self._waiting -= count
            self._in_progress -= Counter((host,))  # a host that has none is forgotten
            self.metrics.waiting.set(self._waiting)
