"""A producer outside transactions, on librdkafka."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from confluent_kafka import Producer as Librdkafka
from confluent_kafka.cimpl import KafkaError, KafkaException

from millstream.errors import EncodeError, KafkaFault, RecordsRefused, Unavailable
from millstream.kafka.faults import fault, made, undelivered
from millstream.kafka.log_throttle import LogThrottle
from millstream.kafka.port import Headers, Message
from millstream.telemetry import metrics
from millstream.telemetry.logs import get_logger
from millstream.timeouts import CHANGE_TIMEOUT, CLOSE_TIMEOUT, FULL_QUEUE_TIMEOUT

log = get_logger(__name__)
_log_throttle = LogThrottle()


BATCH_BYTES = 1_000_000
"""The default of librdkafka's `batch.size`."""

OnDelivery = Callable[[KafkaFault | None, Message], None]


class PlainProducer:
    """`millstream.kafka.port.Producer` over librdkafka; see there for the contract."""

    def __init__(self, properties: dict[str, Any], on_delivery: OnDelivery | None = None) -> None:
        self._on_delivery = on_delivery
        self._failure: KafkaFault | EncodeError | None = None
        self._spoilt = False
        reports = {
            "on_delivery": self._delivered,
            "delivery.report.only.error": on_delivery is None,
            "error_cb": trouble,
        }
        self._properties = properties | reports
        self._native = made(Librdkafka, self._properties)
        self._produce: Callable[..., None] = self._native.produce

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        try:
            self._produce(topic, value, key, partition, None, None, timestamp, headers)
        except BufferError:
            wait_for_room(self._native, topic)
            self.produce(topic, value, key, headers, partition, timestamp)
        except KafkaException as raised:
            raise fault(raised, f"writing to {topic!r}") from raised

    def poll(self, timeout: float = 0.0) -> None:
        self._native.poll(timeout)

    def keep_to(self, batch_bytes: int) -> None:
        if batch_bytes < int(self._properties.get("batch.size", BATCH_BYTES)):
            self._properties["batch.size"] = batch_bytes
            # It is a property of the whole client.
            self._begin_anew()

    def _begin_anew(self) -> None:
        before, self._native = self._native, made(Librdkafka, self._properties)
        self._produce = self._native.produce
        let_go(before)

    def flush(self, timeout: float = CHANGE_TIMEOUT) -> None:
        left = self._native.flush(timeout)
        failure, self._failure = self._failure, None
        if self._spoilt and not left:
            # Sequence numbers are used up that the broker never saw: OUT_OF_ORDER_SEQUENCE_NUMBER from here on.
            self._spoilt = False
            self._begin_anew()
        if failure is not None:
            raise failure
        if left:
            raise Unavailable(f"{left} records were not delivered within {timeout:g} s. They are still being tried.")

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        left = self._native.flush(timeout)
        if left:
            log.warning("records given up at close", code="records_given_up", records=left)
        let_go(self._native)

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        failure = None if error is None else undelivered(error, message.topic())
        if failure is not None and self._failure is None:
            self._failure = failure
        self._spoilt |= isinstance(failure, RecordsRefused)
        if self._on_delivery is not None:
            self._on_delivery(cast(KafkaFault | None, failure), message)


def wait_for_room(native: Librdkafka, topic: str) -> None:
    """Wait until a full queue has delivered something. Raises `Unavailable` when it stays full."""
    full = len(native)
    deadline = time.monotonic() + FULL_QUEUE_TIMEOUT
    while len(native) >= full:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The queue towards {topic!r} stayed full ({full} records) for {FULL_QUEUE_TIMEOUT:g} s: "
                "brokers do not answer, or too slowly."
            )
        native.poll(0.05)


def trouble(error: KafkaError) -> None:
    """librdkafka tells of something that it deals with by itself."""
    metrics.KAFKA_ERRORS.labels("producer", error.name()).inc()
    if _log_throttle(error.name()):
        log.warning("kafka trouble", code="kafka_trouble", error=f"{error.str()} ({error.name()})")


def let_go(native: Librdkafka) -> None:
    """Drop a producer with whatever it still holds, without waiting for brokers."""

    def drop(held: list[Librdkafka]) -> None:
        # Not close(): it would send an abort that was not ordered. The last reference frees all that librdkafka has.
        with suppress(KafkaException):
            held[0].purge(blocking=False)
        held.clear()

    threading.Thread(target=drop, args=([native],), name="kafka-let-go", daemon=True).start()
