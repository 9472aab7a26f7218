"""Service: what the server does for a request, apart from HTTP."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from molformer.data.readers import Entry
from molformer.errors import MolformerError
from molformer.inference.prediction import Prediction
from molformer.inference.predictor import Predictor
from molformer.inference.request import PredictionRequest
from molformer.inference.sources import policy_of
from molformer.serving import schema
from molformer.serving.batcher import Batcher
from molformer.serving.geometries import Geometries
from molformer.serving.limits import Limits
from molformer.serving.metrics import Metrics

ABREAST = 2
"""Molecules of a request that get geometries at a time, for each worker process: others have their turn."""


class TooMuch(MolformerError):
    """A request that holds more than this server takes at once."""


class Busy(MolformerError):
    """A request that comes while too much is waiting."""


class Service:
    """Predictions for requests that come at the same time.

    Args:
        predictor: the model.
        name: how it is called.
        limits: of a request and of all.
        processes: that make geometries; all cores if None.
    """

    def __init__(
        self, predictor: Predictor, name: str, limits: Limits | None = None, processes: int | None = None
    ) -> None:
        self.predictor = predictor
        self.name = name
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.processes = processes or os.cpu_count() or 1
        self.batcher = Batcher(predictor, self.limits.linger, self.metrics.passes.observe)
        self.geometries = Geometries(
            policy_of(predictor.model.domain), self.processes, self.limits.atoms, self.limits.seconds
        )
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="explanation")
        self._waiting = 0

    def check_number(self, count: int) -> None:
        """Refuse a request with too many molecules.

        Raises:
            TooMuch: there are.
        """
        if count > self.limits.molecules:
            raise TooMuch(f"a request may hold {self.limits.molecules} molecules: send the rest in another one")

    async def predict(self, entries: Sequence[Entry], question: PredictionRequest, conformers: int) -> list[Prediction]:
        """A row for every entry, in their order.

        Raises:
            TooMuch: there are too many.
            Busy: too many are waiting already.
        """
        with self._admitted(len(entries)):
            turn = asyncio.Semaphore(ABREAST * self.processes)
            rows = await _all(self._row(entry, question, conformers, turn) for entry in entries)
        for row in rows:
            self.metrics.molecules.labels(row.status).inc()
        return rows

    async def explain(self, entry: Entry) -> schema.Explanation:
        """Where in a molecule a prediction comes from.

        Raises:
            MolformerError: the molecule cannot be used.
        """
        with self._admitted(1):
            found = await self.geometries.of(entry, 1)
            return await asyncio.get_running_loop().run_in_executor(self._aside, self._explanation, found)

    def close(self) -> None:
        """Finish what waits, and end the processes and threads."""
        self.batcher.close()
        self.geometries.close()
        self._aside.shutdown()

    async def _row(
        self, entry: Entry, question: PredictionRequest, conformers: int, turn: asyncio.Semaphore
    ) -> Prediction:
        async with turn:
            job = self.predictor.runner.job(await self.geometries.of(entry, conformers))
        if job.error is not None:
            return Prediction(entry.name, job.error.status, str(job.error))  # type: ignore[arg-type]
        return await asyncio.wrap_future(self.batcher.submit(job, question))

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
    def _admitted(self, count: int) -> Iterator[None]:
        self.check_number(count)
        if self._waiting + count > self.limits.waiting:
            raise Busy(f"{self._waiting} molecules are waiting: try again later")
        self._waiting += count
        self.metrics.waiting.set(self._waiting)
        try:
            yield
        finally:
            self._waiting -= count
            self.metrics.waiting.set(self._waiting)


async def _all(rows: "Iterable[object]") -> list[Prediction]:
    """Results of coroutines, in order; if one fails, the others are given up."""
    tasks: list[asyncio.Task[Prediction]] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(row) for row in rows]  # type: ignore[arg-type]
    return [task.result() for task in tasks]
