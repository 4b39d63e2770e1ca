"""Every metric of Millstream's, in one place.

A hot loop records once a batch, never once an event: it takes its labelled children when it starts
(`EVENTS.labels(...)`) and calls `inc(n)` and `observe_many(mean, n)`.
"""

import platform
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from threading import Lock

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


class WeightedHistogram:
    """A histogram that takes many observations in one call; prometheus-client's own takes one.

    >>> seconds = WeightedHistogram("doctest_seconds", "How long.", ["handler"], (0.1, 1.0), register=False)
    >>> seconds.labels("reserve").observe_many(0.05, 200)
    >>> [sample.value for sample in next(iter(seconds.collect())).samples]
    [200.0, 200.0, 200.0, 200.0, 10.0]
    """

    def __init__(
        self, name: str, help: str, labels: Sequence[str], buckets: Sequence[float], *, register: bool = True
    ) -> None:
        self._name, self._help, self._label_names, self._bounds = name, help, tuple(labels), tuple(buckets)
        self._children: dict[tuple[str, ...], WeightedChild] = {}
        self._lock = Lock()
        if register:
            REGISTRY.register(self)

    def labels(self, *values: str) -> "WeightedChild":
        """The series with these label values, in the order that the labels were declared."""
        if len(values) != len(self._label_names):
            raise ValueError(f"{self._name} has the labels {', '.join(self._label_names)}; got {values}")
        with self._lock:
            return self._children.setdefault(values, WeightedChild(self._bounds))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Collect for prometheus-client, which calls this at each scrape."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._label_names)
        for values, child in list(self._children.items()):
            buckets, total = child.snapshot()
            family.add_metric(values, buckets, total)
        yield family

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Names without values, asked for at registration."""
        yield HistogramMetricFamily(self._name, self._help, labels=self._label_names)


class WeightedChild:
    """One labelled series of a `WeightedHistogram`."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = Lock()

    def observe_many(self, mean: float, count: int) -> None:
        """`count` observations whose mean is `mean`."""
        with self._lock:
            self._counts[bisect_left(self._bounds, mean)] += count
            self._sum += mean * count

    def snapshot(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets and the sum of all observations."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        cumulative, buckets = 0, []
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), counts, strict=True):
            cumulative += count
            buckets.append((bound, float(cumulative)))
        return buckets, total


EVENTS = Counter("millstream_events", "Events that a handler is done with.", ["service", "handler", "topic", "outcome"])
HANDLER_SECONDS = WeightedHistogram(
    "millstream_handler_seconds",
    "Time in a handler per event; for effects, per attempt.",
    ["service", "handler"],
    SECONDS,
)
EFFECT_FAILING_SECONDS = Gauge(
    "millstream_effect_failing_seconds",
    "For how long an effect has failed without a success; 0 while it succeeds or has nothing to do.",
    ["service", "handler"],
)
RESOURCES_RENEWED = Counter(
    "millstream_resources_renewed", "Resources of effects that were made again.", ["service", "resource"]
)
BATCH_SIZE = Histogram("millstream_batch_size", "Events polled at once.", ["service"], buckets=COUNTS)
TRANSACTION_SECONDS = Histogram(
    "millstream_transaction_seconds", "From begin to its end.", ["service", "outcome"], buckets=SECONDS
)
DEAD_LETTERS = Counter("millstream_dead_letters", "Events set aside.", ["service", "topic", "reason"])
FOREIGN_KEYS = Counter(
    "millstream_foreign_keys",
    "Records that were handled and whose key is not the key field of their event.",
    ["service", "topic"],
)
PARKED_EVENTS = Gauge("millstream_parked_events", "Events that wait with their keys.", ["service", "kind"])
PARKED_KEYS = Gauge(
    "millstream_parked_keys", "Keys that wait: for their next attempt, or for a person.", ["service", "kind", "state"]
)
PARTITIONS_PAUSED = Gauge(
    "millstream_partitions_paused", "Partitions that wait because too much of them is parked.", ["service", "kind"]
)
PARTITIONS_UNREAD = Gauge(
    "millstream_partitions_unread",
    "Partitions that were added to a topic and are not declared yet: their events wait.",
    ["service", "topic"],
)
REDRIVES = Counter("millstream_redrives", "Dead letters redriven, edited or discarded.", ["service", "topic", "action"])
REDRIVES_REFUSED = Counter(
    "millstream_redrives_refused", "Dead letters that a rule left to operators.", ["rule", "service", "topic", "reason"]
)
VIOLATIONS = Gauge(
    "millstream_violations", "Invariants that do not hold, by `millstream verify`.", ["system", "invariant"]
)
UNJUDGED = Gauge(
    "millstream_unjudged",
    "What `millstream verify` could not judge: a broken invariant, or a total while something is under_way.",
    ["system", "invariant", "reason"],
)
AUDITED = Counter(
    "millstream_audited_records",
    "Records that the auditor has read; of them those that cannot be decoded.",
    ["system", "topic", "outcome"],
)
SAGAS = Counter(
    "millstream_sagas",
    "Sagas that came into a state (running, cancelling, completed, cancelled, parked), and answers of unknown ones.",
    ["service", "saga", "state"],
)
CONSUMER_LAG = Gauge("millstream_consumer_lag", "Records still to be read.", ["service", "group", "topic", "partition"])
REBALANCES = Counter("millstream_rebalances", "Partitions given and taken.", ["group", "kind"])
KAFKA_ERRORS = Counter("millstream_kafka_errors", "Troubles that librdkafka told of.", ["client", "error"])
OUTBOX_PENDING = Gauge("millstream_outbox_pending", "Outbox rows that are not published yet.", ["service"])
OUTBOX_REFUSED = Gauge(
    "millstream_outbox_refused", "Outbox rows set aside because they cannot be published.", ["service"]
)
RESTORE_SECONDS = Gauge(
    "millstream_restore_seconds", "How long the last restore of a store took.", ["service", "store"]
)
PUBLISHER_EVENTS = Counter("millstream_publisher_events", "Events published.", ["service", "topic", "outcome"])
PUBLISHER_BATCH_SIZE = Histogram(
    "millstream_publisher_batch_size", "Requests in one publishing transaction.", ["service"], buckets=COUNTS
)
PUBLISHER_SECONDS = Histogram(
    "millstream_publisher_seconds", "From joining a publishing transaction to its end.", ["service"], buckets=SECONDS
)
PUBLISHER_PENDING = Gauge("millstream_publisher_pending", "Requests waiting to be published.", ["service"])
SILENT_SECONDS = Gauge(
    "millstream_silent_seconds", "Seconds for which a worker's loop, or a native call of it, shows no life.", ["worker"]
)
OUTAGE = Gauge(
    "millstream_outage",
    "1 while a worker waits for something that does not answer: registry, brokers.",
    ["worker", "of"],
)
BUILD_INFO = Gauge(
    "millstream_build_info", "Always 1; the labels tell what runs.", ["version", "python", "service", "slot"]
)


def describe_build(service: str, slot: int) -> None:
    """Let `millstream_build_info` say what runs here."""
    try:
        release = version("millstream")
    except PackageNotFoundError:  # run from a folder that is not installed
        release = "unknown"
    BUILD_INFO.labels(release, platform.python_version(), service, str(slot)).set(1)


def render() -> tuple[bytes, str]:
    """All metrics in Prometheus's text format, and its content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
