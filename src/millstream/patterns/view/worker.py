"""The worker that carries a view's rows from their topic into a sink."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from millstream.contracts import Contracts
from millstream.declare import Service, Value
from millstream.errors import DecodeError, Fenced
from millstream.kafka import BEGINNING, Kafka, Message, Offsets, TopicPartition
from millstream.patterns.view.sink import Listener, PositionsMoved, Row, RowsRefused, Sink
from millstream.runtime.loop.consumer_loop import ConsumerLoop, Processor
from millstream.runtime.loop.offset_reporter import OffsetReporter
from millstream.runtime.records.dead_letter import dead_letter, reason_of
from millstream.runtime.records.dead_letter_log import dead_letter_log
from millstream.settings import Settings
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

CHUNK = 500
_IDLE_SECONDS = 0.25
_MAX_MOVED = 5
"""Times in a row that positions may have moved elsewhere, before this process takes itself for the zombie."""


class SinkBackground:
    """Makes the worker of one sink; see `millstream.runtime.worker.Background`."""

    def __init__(
        self, service: Service, view: str, topic: str, value: type[Value], sink: Sink, applied: Listener
    ) -> None:
        self.service, self.view, self.topic, self.value = service, view, topic, value
        self.sink, self.applied = sink, applied
        self.group = f"{service.name}.{view}.{sink.name}"

    def worker(
        self, settings: Settings, contracts: Contracts, kafka: Kafka, *, health: Health | None = None
    ) -> "SinkWorker":
        return SinkWorker(self, settings, contracts, kafka, health=health)


class SinkWorker(Processor):
    """Reads committed rows and applies them in batches, from where the sink says that it stands.

    The positions in the sink are the truth; the consumer group, named like the worker, shares partitions out between
    instances and shows tools how far the sink has come. Bytes that are no row, and rows that the sink refuses, become
    dead letters.

    `run` raises what the sink raises, and `Fenced` where another process keeps writing to the same sink.
    """

    def __init__(
        self,
        of: SinkBackground,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        *,
        health: Health | None = None,
    ) -> None:
        self.name = of.group
        self._of = of
        self._sink = of.sink
        self._settings = settings
        self._kafka = kafka
        self._contracts = contracts
        self._loop = ConsumerLoop(
            self,
            kafka,
            settings,
            name=self.name,
            service=of.service.name,
            group=of.group,
            topics=[of.topic],
            max_records=CHUNK,
            co_partitioned=False,
            health=health,
        )
        self._consumer = self._loop.consumer
        self._decode: Callable[[bytes | None], Any] = contracts.values(of.topic, of.value).decode
        self._offset_reporter = OffsetReporter(self.name, self._loop.ids)
        self._positions: dict[TopicPartition, int] = {}
        self._moved = 0

    def run(self, stop: threading.Event) -> None:
        self._loop.run(stop)

    # What the loop asks for

    def open(self) -> None:
        topic_id = self._loop.wait_out(self._loop.ids.refresh).get(self._of.topic, "")
        self._sink.open(self._of.service, self._settings, self.name, self._of.value, topic_id)

    def before_poll(self) -> float:
        return _IDLE_SECONDS

    def process(self, batch: list[Message]) -> None:
        if batch:
            self._apply(batch)
        if not batch or self._offset_reporter.due:
            dead_letter_log.flush()
            self._offset_reporter.report(self._consumer, self._positions)

    def assign(self, partitions: list[TopicPartition]) -> Offsets:
        self._loop.ids.check()
        found = dict(self._sink.positions(partitions))
        for partition in partitions:
            self._positions.pop(partition, None)
        self._positions |= found
        return {partition: found.get(partition, BEGINNING) for partition in partitions}

    def revoke(self, partitions: list[TopicPartition]) -> None:
        self._offset_reporter.report(self._consumer, self._positions)
        self.lose(partitions)

    def lose(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._offset_reporter.forget(partition)

    def close(self) -> None:
        self._sink.close()

    # Rows

    def _apply(self, batch: Sequence[Message]) -> None:
        self._loop.check_order(batch, lambda at: self._positions.get(at, 0))
        rows, dead_letters = self._read(batch)
        if dead_letters:
            self._dead_letter(dead_letters)
        moved = {(message.topic(), message.partition()): message.offset() + 1 for message in batch}
        try:
            self._write(rows, moved, batch)
        except PositionsMoved:
            self._catch_up()
            return
        self._moved = 0
        self._positions.update(moved)
        metrics.EVENTS.labels(self._of.service.name, self.name, self._of.topic, "handled").inc(len(batch))
        self._of.applied(list(rows.values()))

    def _write(self, rows: dict[str, Row], moved: Offsets, batch: Sequence[Message]) -> None:
        """Takes those out of `rows` that the sink refuses, and sets them aside before its positions move past them."""
        while True:
            try:
                return self._sink.apply(list(rows.values()), moved)
            except RowsRefused as error:
                refused = {(key, rows.pop(key).version): why for key, why in error.refused.items()}
            at = [(message, ((message.key() or b"").decode(errors="replace"), message.offset())) for message in batch]
            self._dead_letter([(message, refused[index]) for message, index in at if index in refused])

    def _read(self, batch: Sequence[Message]) -> tuple[dict[str, Row], list[tuple[Message, DecodeError]]]:
        """The newest row of each key, and what is none. Raises `RegistryUnavailable` and `Stopping`."""
        rows: dict[str, Row] = {}
        dead_letters: list[tuple[Message, DecodeError]] = []
        for message in batch:
            value = message.value()
            try:
                key = (message.key() or b"").decode()
                decoded = None if value is None else self._loop.wait_out(lambda value=value: self._decode(value))
                rows[key] = Row(key, decoded, message.offset())
            except UnicodeDecodeError as error:
                dead_letters.append((message, DecodeError("bad_key", str(error))))
            except DecodeError as error:
                dead_letters.append((message, error))
        return rows, dead_letters

    def _dead_letter(self, dead_letters: Sequence[tuple[Message, BaseException]]) -> None:
        """Set records aside that are no rows. They are rare, so the producer is made when it is needed."""
        producer = self._kafka.producer()
        try:
            for message, error in dead_letters:
                attempts = 0 if isinstance(error, DecodeError) else 1
                topic, key, value, headers = dead_letter(
                    message, service=self._of.service.name, handler=self.name, error=error, attempts=attempts
                )
                producer.produce(topic, value, key, headers)
                metrics.DEAD_LETTERS.labels(self._of.service.name, self._of.topic, reason_of(error)).inc()
            producer.flush()
        finally:
            producer.close()

    def _catch_up(self) -> None:
        self._moved += 1
        if self._moved > _MAX_MOVED:
            raise Fenced(f"Another process writes to the sink {self.name!r}; stop this one.")
        mine = self._consumer.assignment()
        log.warning("positions moved elsewhere; going on from there", code="positions_moved", worker=self.name)
        self._consumer.seek(self.assign(mine))
