"""What the server counts, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "molformer_requests", "Requests that were answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("molformer_request_seconds", "Time to an answer.", ["path"], registry=self.registry)
        self.molecules = Counter("molformer_molecules", "Rows that were answered.", ["status"], registry=self.registry)
        self.passes = Histogram(
            "molformer_batch_molecules", "Molecules of a pass of the model.", buckets=_SIZES, registry=self.registry
        )
        self.waiting = Gauge("molformer_waiting_molecules", "Molecules that are at work.", registry=self.registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
