"""The compacted topic of the parked events of effects, one record for each."""

from collections.abc import Collection

import msgspec

from millstream.kafka.metadata_wait import wait_for_transactions
from millstream.kafka.port import Kafka, TopicPartition
from millstream.runtime.task.parked import ParkedEvent
from millstream.telemetry import get_logger

log = get_logger(__name__)

RESTORE_TIMEOUT = 60.0
"""Seconds that a restore waits for a transaction that another process left open."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ParkedEvent).decode


class ParkedTopic:
    """The parked events of a service's effects: partition n has those of partition n of every topic that they read."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self.topic = topic

    def restore(self, partitions: Collection[TopicPartition]) -> list[ParkedEvent]:
        """Return the parked events of these partitions, in their order.

        Every other writer must have stopped: a former holder has committed, died or been fenced. Raises
        `Unavailable` if brokers do not answer, or a transaction of a dead holder stays open for too long.
        """
        numbers = sorted({number for _, number in partitions})
        wait_for_transactions(self._kafka, [(self.topic, number) for number in numbers], RESTORE_TIMEOUT)
        found: dict[bytes, bytes] = {}
        for batch in self._kafka.read_to_end(self.topic, numbers):
            for message in batch:
                key, value = message.key() or b"", message.value()
                if value is None:
                    found.pop(key, None)
                else:
                    found[key] = value
        parked = [event for event in map(self._read, found.values()) if event is not None]
        ours = set(partitions)
        return sorted((event for event in parked if event.at[:2] in ours), key=lambda event: event.at)

    def _read(self, value: bytes) -> ParkedEvent | None:
        try:
            return _decode(value)
        except msgspec.MsgspecError as error:
            # Foreign bytes must not keep the rest from being restored.
            log.warning(
                "a record that is no parked event is skipped",
                code="parked_event_unreadable",
                topic=self.topic,
                error=str(error),
            )
            return None


def key_of(at: tuple[str, int, int], milliseconds: int) -> bytes:
    """Return the key of the parked event with this topic, partition and offset.

    - `milliseconds`: its timestamp. Where the topic was deleted and created again, another event has the same offset.

    >>> key_of(("orders.events", 3, 42), 1_700_000_000_123)
    b'orders.events/3/42/1700000000123'
    """
    return "/".join(map(str, (*at, milliseconds))).encode()


def value_of(event: ParkedEvent) -> bytes:
    """Return the record's value while the event is parked."""
    return _encode(event)
