"""Batcher: molecules of all requests that wait at the same time go through the model together.

One thread drives the model. While it computes, molecules gather; the next pass takes as many as fit into a batch,
whichever request they belong to, whatever targets it asks for, in an order that is fair among clients. A large molecule
is computed alone, and after it the small ones have the model for a multiple of the time that it took.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

import torch

from molformer.inference.batches import Job
from molformer.inference.prediction import Prediction
from molformer.inference.predictor import Predictor
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import row_of
from molformer.models.forward import threads
from molformer.serving.fairness import Client, FairQueue

logger = logging.getLogger(__name__)

LARGE_EDGES = 3000  # edges of a molecule that is computed alone; all pairs of 55 atoms have as many

SMALL_SHARE = 3.0  # time that small molecules have after a large one, if there are any, in units of its time
CLOSE_SECONDS = 5.0  # that the pass in progress may still take when the batcher is closed


@dataclass(frozen=True, eq=False)
class _Item:
    job: Job
    request: PredictionRequest
    row: "Future[Prediction]" = field(default_factory=Future)


class Batcher:
    """A queue of molecules, each waiting some seconds for others, and the thread that predicts them.

    `observe` is called with the number of molecules of each pass. `busy` is the number of cores that others compute on:
    threads that wait for one of these would delay all.
    """

    def __init__(
        self,
        predictor: Predictor,
        max_batch_delay: float = 0.003,
        observe: Callable[[int], None] = lambda count: None,
        busy: Callable[[], int] = lambda: 0,
    ) -> None:
        self.predictor = predictor
        self.max_batch_delay = max_batch_delay
        self._observe, self._busy = observe, busy
        self._small: FairQueue[_Item] = FairQueue()
        self._large: FairQueue[_Item] = FairQueue()
        self._owed = 0.0  # seconds that small molecules have before the next large one
        self._started = 0.0  # when the pass in progress began; 0 if there is none
        self._closed = False
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, job: Job, request: PredictionRequest, client: Client = Client()) -> "Future[Prediction]":  # noqa: B008
        """The row of a molecule, when it is there; one that is cancelled is not computed."""
        item, edges = _Item(job, request), sum(job.edges)
        with self._changed:
            (self._small if edges < LARGE_EDGES else self._large).put(item, client, 50.0 + edges)
            self._changed.notify()
        return item.row

    def pass_seconds(self) -> float:
        """For how long the pass in progress has been computed; 0 if there is none."""
        started = self._started
        return time.monotonic() - started if started else 0.0

    def close(self) -> bool:
        """Finish what waits, and end; whether it did in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (items := self._next_batch()) is not None:
            items = [item for item in items if item.row.set_running_or_notify_cancel()]
            if items:
                self._observe(len(items))
                self._started = start = time.monotonic()
                with threads(max(1, torch.get_num_threads() - self._busy())):
                    self._compute(items)
                self._started, seconds = 0.0, time.monotonic() - start
                is_large = sum(items[0].job.edges) >= LARGE_EDGES
                self._owed = SMALL_SHARE * seconds if is_large else max(0.0, self._owed - seconds)

    def _next_batch(self) -> list[_Item] | None:
        """Up to a full batch of what waits, or a large molecule; None if nothing will follow."""
        with self._changed:
            while not (self._small or self._large):
                if self._closed:
                    return None
                self._changed.wait()
            end, size = time.monotonic() + self.max_batch_delay, self.predictor.runner.batch_size
            while len(self._small) < size and not self._closed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._large and not (self._small and self._owed):
                return [self._large.pop()]
            items: list[_Item] = []
            geometries = 0
            while self._small and geometries < size:
                items.append(self._small.pop())
                geometries += len(items[-1].job.structures)
            return items

    def _compute(self, items: Sequence[_Item]) -> None:
        """Give every item its row; where the whole fails, each is tried alone."""
        try:
            rows = self._rows(items)
        except Exception as error:
            if len(items) == 1:
                logger.exception("a molecule could not be computed")
                items[0].row.set_exception(error)
                return
            for item in items:
                self._compute([item])
            return
        for item, row in zip(items, rows, strict=True):
            item.row.set_result(row)

    def _rows(self, items: Sequence[_Item]) -> list[Prediction]:
        predictor = self.predictor
        wanted = {target.name for item in items for target in item.request.targets}
        targets = [target for target in predictor.model.targets if target.name in wanted]
        outputs = predictor.runner.outputs([item.job for item in items], targets)
        rows = []
        for item in items:
            mine = [next(outputs) for _ in item.job.structures]
            rows.append(row_of(item.job, mine, item.request, predictor.model, predictor.calibrations))
        return rows
