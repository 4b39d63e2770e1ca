"""A regular check that brokers answer, and that a service's topics are those that it started with.

Clients of Kafka go on through a topic's deletion without a word: a producer writes to the new one of that name, a
consumer reads it, from its start or from where it was in the old one. And a group assigns partitions that were added,
although state is stored by partition. This check notices both.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from millstream.declare import Service
from millstream.errors import TopicReplaced, Unavailable
from millstream.kafka.port import Kafka, TopicSpec
from millstream.runtime.loop.topic_ids import replaced
from millstream.runtime.outage import BROKERS, OutageReporter
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

EVERY = 5.0
"""Seconds between two looks."""


class TopicWatch:
    """The worker that watches the topics of one service.

    - `specs`: the topics, as the service declares them. Dead letters are not checked: no group has a position there.

    Brokers that do not answer make the process unhealthy, also one that reads nothing, such as a web process without
    requests. So does a topic with more partitions than are declared: their events wait. `run` raises
    `TopicReplaced` for a topic that was deleted and created again: its process must start again.
    """

    def __init__(
        self, service: Service, kafka: Kafka, specs: Sequence[TopicSpec], health: Health, *, every: float = EVERY
    ) -> None:
        self.name = f"{service.name}.topics"
        self._service = service.name
        self._kafka = kafka
        self._consumed = {topic.name: topic.partitions for topic in service.consumed()}
        dead = {topic.dead_letters for topic in service.consumed()}
        self._topics = [spec.name for spec in specs if spec.name not in dead]
        self._health = health
        self._reporter = OutageReporter(self.name, health)
        self._answered_at = time.monotonic()
        self._every = every
        self._ids: dict[str, str] = {}
        self._reported: dict[str, int] = {}

    @property
    def known(self) -> frozenset[str]:
        """The topics that it has seen."""
        return frozenset(self._ids)

    def run(self, stop: threading.Event) -> None:
        """Check until `stop` is set."""
        while not stop.is_set():
            try:
                self._look()
            except Unavailable as error:
                self._reporter.show(BROKERS, error, time.monotonic() - self._answered_at)
            else:
                self._answered_at = time.monotonic()
                self._reporter.over()
            stop.wait(self._every)

    def _look(self) -> None:
        admin = self._kafka.admin()
        try:
            ids = admin.topic_ids(self._topics)
            there = admin.topics()
        finally:
            admin.close()
        self._report_unread({name: there[name].partitions for name in self._consumed if name in there})
        for topic, id in ids.items():
            if (before := self._ids.get(topic)) and id and before != id:
                raise TopicReplaced(replaced(topic, f"{self._service} ran"))
        # One that is gone for now keeps its id, for comparison with that of its successor.
        self._ids |= ids

    def _report_unread(self, counts: Mapping[str, int]) -> None:
        unread = {topic: count for topic, count in counts.items() if count > self._consumed[topic]}
        for topic in self._reported.keys() | unread.keys():
            more = unread[topic] - self._consumed[topic] if topic in unread else 0
            metrics.PARTITIONS_UNREAD.labels(self._service, topic).set(more)
        if unread != self._reported:
            for topic, count in unread.items():
                log.error(self._sentence(topic, count), code="partitions_unread", topic=topic, partitions=count)
            self._health.report("partitions", "; ".join(self._sentences(unread)) or None)
            self._reported = unread

    def _sentences(self, unread: Mapping[str, int]) -> Iterable[str]:
        return (self._sentence(topic, count) for topic, count in sorted(unread.items()))

    def _sentence(self, topic: str, count: int) -> str:
        declared = self._consumed[topic]
        return (
            f"{topic} has {count} partitions and is declared with {declared}: events in partitions {declared} to "
            f"{count - 1} wait, and keys that go there now have state and order elsewhere. Nothing is lost: see "
            "`millstream topics grow`"
        )
