"""Batcher: molecules of all requests that wait at the same time go through the model together.

One thread drives the model. While it computes, molecules gather; the next pass takes all of them, whichever request
they belong to, whatever targets it asks for.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread

from molformer.inference.batches import Job
from molformer.inference.prediction import Prediction
from molformer.inference.predictor import Predictor
from molformer.inference.request import PredictionRequest
from molformer.inference.rows import row_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Item:
    job: Job
    question: PredictionRequest
    row: "Future[Prediction]" = field(default_factory=Future)


class Batcher:
    """A queue of molecules and the thread that predicts them.

    Args:
        predictor: the model.
        linger: seconds that a molecule waits for company.
        observe: called with the number of molecules of each pass.
    """

    def __init__(
        self, predictor: Predictor, linger: float = 0.003, observe: Callable[[int], None] = lambda count: None
    ) -> None:
        self.predictor = predictor
        self.linger = linger
        self._observe = observe
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, job: Job, question: PredictionRequest) -> "Future[Prediction]":
        """The row of a molecule, when it is there; one that is cancelled is not computed."""
        item = _Item(job, question)
        self._queue.put(item)
        return item.row

    def close(self) -> None:
        """Finish what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            items, ended = self._company(first)
            items = [item for item in items if item.row.set_running_or_notify_cancel()]
            if items:
                self._observe(len(items))
                self._compute(items)
            if ended:
                return

    def _company(self, first: _Item) -> tuple[list[_Item], bool]:
        """What waits beside the first, up to a full batch, and whether nothing will follow."""
        items, end = [first], time.monotonic() + self.linger
        geometries = len(first.job.structures)
        while geometries < self.predictor.runner.batch_size:
            try:
                item = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                break
            if item is None:
                return items, True
            items.append(item)
            geometries += len(item.job.structures)
        return items, False

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
        wanted = {target.name for item in items for target in item.question.targets}
        targets = [target for target in predictor.model.targets if target.name in wanted]
        outputs = predictor.runner.outputs([item.job for item in items], targets)
        rows = []
        for item in items:
            mine = [next(outputs) for _ in item.job.structures]
            rows.append(row_of(item.job, mine, item.question, predictor.model, predictor.calibrations))
        return rows
