"""The events of one key, and its state at any time: read from the log, never from snapshots."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from millstream.contracts import Contracts
from millstream.contracts.headers import envelope_from
from millstream.declare import Contract, Envelope
from millstream.errors import AggregateMissing, DeclarationError, TopicMissing
from millstream.kafka import Kafka, partition_of
from millstream.patterns.aggregate.aggregate import Aggregate, rules_of
from millstream.patterns.aggregate.replay import Version, replay
from millstream.timeouts import HISTORY_TIMEOUT

A = TypeVar("A", bound=Aggregate)


class Change(NamedTuple, Generic[A]):
    """One event of a key, and what it led to. `version` is that of the state after it."""

    event: Contract
    envelope: Envelope
    state: A
    version: int


def history(
    aggregate: type[A], key: str, *, kafka: Kafka, contracts: Contracts, timeout: float = HISTORY_TIMEOUT
) -> Iterator[Change[A]]:
    """Every committed event of `key`, oldest first, up to the end of its partition as it is now.

    Writes nothing. What changed nothing, such as a refusal, is there with the state as it was.

    - `timeout`: seconds without any record from the broker.

    Raises `DeclarationError` for what is no aggregate, `AggregateMissing` where no event of `key` is found,
    `TopicMissing` or `Unavailable` where the log cannot be read, and `DecodeError` for a record of this key that is no
    event.
    """
    topic = rules_of(aggregate).topic
    partition = partition_of(key, partitions_of(kafka, topic.name, timeout))
    return _changes(aggregate, key, partition, kafka, contracts.decoder([topic]).decode, timeout)


def _changes(
    aggregate: type[A],
    key: str,
    partition: int,
    kafka: Kafka,
    decode: Callable[[bytes | None], Contract],
    timeout: float,
) -> Iterator[Change[A]]:
    rules, wanted = rules_of(aggregate), key.encode()
    topic, events = rules.topic, set(rules.events)
    now, missing = Version(aggregate()), True
    for batch in kafka.read_to_end(topic.name, [partition], isolation="read_committed", timeout=timeout):
        for message in batch:
            if message.key() != wanted:
                continue
            event = decode(message.value())
            if type(event) not in events:
                continue
            missing = False
            now = replay(aggregate, [event], since=now)
            yield Change(event, envelope_from(message, type(event)), *now)
    if missing:
        raise AggregateMissing(
            f"{aggregate.__name__} {key!r} has no event in {topic.name}[{partition}]: nothing ever happened to it. "
            "Check the key, and that this is the cluster where it lives"
        )


def state_at(
    aggregate: type[A],
    key: str,
    *,
    kafka: Kafka,
    contracts: Contracts,
    offset: int | None = None,
    time: datetime | None = None,
    timeout: float = HISTORY_TIMEOUT,
) -> Version[A]:
    """The state of `key` after all its events up to one `offset` or `time`; version 0 before the first.

    - `offset`: of the event topic, in the key's partition; an event there counts.
    - `time`: with a time zone; events are taken in their order until the first that is later.

    Raises as `history` does.
    """
    if (offset is None) == (time is None):
        raise DeclarationError("state_at takes one of offset= and time=")
    if time is not None and time.tzinfo is None:
        raise DeclarationError(f"state_at: time={time} has no time zone: use datetime(..., tzinfo=UTC)")
    now = Version(aggregate())
    for change in history(aggregate, key, kafka=kafka, contracts=contracts, timeout=timeout):
        envelope = change.envelope
        if (offset is not None and envelope.offset > offset) or (time is not None and envelope.time > time):
            break
        now = Version(change.state, change.version)
    return now


def partitions_of(kafka: Kafka, topic: str, timeout: float) -> int:
    """The number of partitions that a topic of events has on this cluster. Raises `TopicMissing`."""
    admin = kafka.admin()
    try:
        found = admin.topics(timeout).get(topic)
    finally:
        admin.close()
    if found is None:
        raise TopicMissing(f"{topic} is not there: run the service that the aggregate is mounted on, which makes it")
    return found.partitions
