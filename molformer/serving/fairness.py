"""The order in which work is done: fair among clients, by estimated cost, with capacity reserved for small molecules.

Self-clocked fair queuing (Golestani, INFOCOM 1994): work of cost c gets the tag max(v, last tag of its client) + c,
where v is the tag of the work that was started last; the lowest tag is next. Each client so has an equal share of the
capacity. Large work waits in a queue of its own, because what has been started cannot be interrupted.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Client(NamedTuple):
    """Who asks; a host with many connections has no larger share than one with a single connection."""

    address: tuple[str, int] = ("", 0)  # of the connection
    weight: int = 1  # of its costs: the number of requests of its host that are in progress


class FairQueue(Generic[Item]):
    """A queue whose next item is that of the client that has had the least."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._number = count()
        self._now = 0.0
        self._last: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, item: Item, client: Client, cost: float) -> None:
        """Add an item of a client."""
        tag = max(self._now, self._last.get(client.address, 0.0)) + cost * client.weight
        self._last[client.address] = tag
        heappush(self._heap, (tag, next(self._number), item))

    def pop(self) -> Item:
        """The next item."""
        self._now, _, item = heappop(self._heap)
        if len(self._last) > 1000 + 2 * len(self._heap):  # of clients that have nothing here
            self._last = {address: tag for address, tag in self._last.items() if tag > self._now}
        return item
