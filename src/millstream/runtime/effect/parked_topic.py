"""The compacted topic of the parked events of effects, one record for each."""

from collections.abc import Collection

from millstream.kafka.metadata_wait import wait_for_transactions
from millstream.kafka.port import Kafka, Message, TopicPartition
from millstream.runtime.task.parked import ParkedEvent, parked_store, store_key
from millstream.state.internal_store import encode_value
from millstream.state.partitions import read_changelog
from millstream.timeouts import OPEN_TRANSACTION_TIMEOUT


def restore_parked(kafka: Kafka, topic: str, partitions: Collection[TopicPartition]) -> list[ParkedEvent]:
    """Return the parked events of these partitions, in their order.

    - `topic`: partition n has the events of partition n of every topic that the effects read.

    Every other writer must have stopped: a former holder has committed, died or been fenced. Raises `Unavailable` if
    brokers do not answer, or a transaction of a dead holder stays open for too long.
    """
    stores = {number: parked_store(topic).partition() for number in sorted({number for _, number in partitions})}
    wait_for_transactions(kafka, [(topic, number) for number in stores], OPEN_TRANSACTION_TIMEOUT)
    for _ in read_changelog(kafka, topic, stores):
        pass
    ours = set(partitions)
    parked = (event for store in stores.values() for _, event in store.items())
    return sorted((event for event in parked if event.at[:2] in ours), key=lambda event: event.at)


def record_of(message: Message, parked: ParkedEvent | None) -> tuple[bytes, bytes | None]:
    """Return key and value of the record that parks the event of `message`, or that says it is parked no more."""
    return store_key(message).encode(), None if parked is None else encode_value(parked)
