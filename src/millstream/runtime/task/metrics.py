"""The metrics of a worker: events are counted as they pass, and reported once a transaction."""

import time
from collections import Counter

from millstream.kafka.log_throttle import LogThrottle
from millstream.kafka.port import Consumer, Message, TopicPartition
from millstream.runtime.records.dead_letter_log import dead_letter_log
from millstream.telemetry import get_logger, metrics

log = get_logger(__name__)

_LAG_EVERY = 2.0
"""Seconds between looks at how far the worker is behind."""


class WorkerMetrics:
    """The metrics of one worker. Used by its thread alone.

    - `timed`: whether the worker measures chunks; where handlers run side by side, each call is measured.
    """

    def __init__(self, service: str, group: str, *, timed: bool = True) -> None:
        self._service = service
        self._group = group
        self._timed = timed
        self.handled: Counter[tuple[str, str]] = Counter()
        """Events by handler and topic: the hot loop counts here."""
        self._seconds = 0.0
        self._batch_size = metrics.BATCH_SIZE.labels(service)
        self._lag_at = 0.0
        self._lagging: set[TopicPartition] = set()
        self._log_throttle = LogThrottle()

    def chunk(self, events: int, seconds: float) -> None:
        """Count a chunk of events that is done."""
        self._batch_size.observe(events)
        self._seconds += seconds

    def dead_letter(self, handler: str | None, topic: str, reason: str) -> None:
        """Count a dead letter."""
        metrics.EVENTS.labels(self._service, handler or "", topic, "dead_letter").inc()
        metrics.DEAD_LETTERS.labels(self._service, topic, reason).inc()

    def duplicate(self, handler: str, message: Message, *, same: bool) -> None:
        """Count an event that was skipped, as one with its identity was handled before. `same`: with the same bytes."""
        topic = message.topic()
        metrics.EVENTS.labels(self._service, handler, topic, "duplicate" if same else "unlike_duplicate").inc()
        if not same and self._log_throttle(f"{handler}/{topic}"):
            log.warning(
                "an event is skipped, for another one had its identity, and they differ. If they are two "
                "events, let Topic(..., identity=) say what tells them apart; more are counted as unlike_duplicate",
                code="inbox_unlike_duplicate",
                group=self._group,
                handler=handler,
                topic=topic,
                partition=message.partition(),
                offset=message.offset(),
            )

    def no_redrive(self, message: Message, reason: str) -> None:
        """Count and log a record of the redrive topic that was skipped: it is no event of this service."""
        metrics.EVENTS.labels(self._service, "", message.topic(), "skipped").inc()
        log.warning(
            "a redrive of an event that is not read here is skipped; redrive it with `millstream dlq redrive`",
            code="redrive_skipped",
            group=self._group,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            error=reason,
        )

    def transaction(self, outcome: str, seconds: float) -> None:
        """Report a transaction that has ended; `outcome` is `"committed"`, `"aborted"` or `"unknown"`."""
        metrics.TRANSACTION_SECONDS.labels(self._service, outcome).observe(seconds)
        if outcome == "committed" and (events := self.handled.total()):
            for (handler, topic), count in self.handled.items():
                metrics.EVENTS.labels(self._service, handler, topic, "handled").inc(count)
                if self._timed:
                    metrics.HANDLER_SECONDS.labels(self._service, handler).observe_many(self._seconds / events, count)
        self.handled.clear()
        self._seconds = 0.0

    def parked(self, kind: str, events: int, *, retrying: int, held: int, paused: int) -> None:
        """Report the parked events and keys, and how many partitions wait because of them."""
        metrics.PARKED_EVENTS.labels(self._service, kind).set(events)
        metrics.PARKED_KEYS.labels(self._service, kind, "retrying").set(retrying)
        metrics.PARKED_KEYS.labels(self._service, kind, "held").set(held)
        metrics.PARTITIONS_PAUSED.labels(self._service, kind).set(paused)

    def lag(self, consumer: Consumer) -> None:
        """Report the lag, and the dead letters that repeat, every `_LAG_EVERY` seconds."""
        now = time.monotonic()
        if now < self._lag_at:
            return
        self._lag_at = now + _LAG_EVERY
        dead_letter_log.flush()
        behind = consumer.lag()
        for topic, partition in self._lagging - behind.keys():
            metrics.CONSUMER_LAG.remove(self._service, self._group, topic, str(partition))
        for (topic, partition), count in behind.items():
            metrics.CONSUMER_LAG.labels(self._service, self._group, topic, str(partition)).set(count)
        self._lagging = set(behind)
