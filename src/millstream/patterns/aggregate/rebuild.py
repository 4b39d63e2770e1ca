"""Snapshots made again from the events, where an evolution was rewritten."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from millstream.contracts import Contracts
from millstream.contracts.headers import envelope_from
from millstream.declare import Contract, Kind, Service, Store
from millstream.errors import DeclarationError, Unavailable
from millstream.kafka import END, Consumer, Kafka, Offsets, TopicPartition, TransactionalProducer, partition_of
from millstream.kafka.metadata_wait import wait_for_transactions
from millstream.patterns.aggregate.aggregate import Aggregate, rules_of
from millstream.patterns.aggregate.history import partitions_of
from millstream.patterns.aggregate.runner import Runner
from millstream.timeouts import LEAVE_TIMEOUT


def rebuild(
    aggregate: type[Aggregate], service: Service, *, kafka: Kafka, contracts: Contracts, timeout: float = LEAVE_TIMEOUT
) -> int:
    """Replays every key's events and writes the snapshots that differ; answers how many. Nothing is decided or said.

    The service must be stopped: this takes its place in its consumer group meanwhile, and one that starts waits.

    - `timeout`: seconds to wait for the service's instances to have left: at least their session timeout.

    Raises `DeclarationError` where `service` does not run the aggregate, `Unavailable` where it is running, or where a
    broker does not answer, and another `KafkaFault` where the group went on without this: nothing is written then.
    """
    store = _store_of(aggregate, service)
    topic = store.changelog(service.name)
    values = contracts.values(topic, store.value)
    with _alone(service, kafka, timeout) as consumer:
        _settle(kafka, (topic, rules_of(aggregate).topic.name), timeout)
        found = _replayed(aggregate, store, kafka, contracts)
        wanted = {key: values.encode(snapshot) for key, snapshot in found.items()}
        stored = _stored(kafka, topic)
        changed = {key: wanted.get(key) for key in {*wanted, *stored} if wanted.get(key) != stored.get(key)}
        producer = kafka.transactional_producer(f"{service.group(Kind.KAFKA)}.rebuild")
        try:
            producer.begin()
            for key, value in changed.items():
                partition = partition_of(key, service.partitions(Kind.KAFKA))
                producer.produce(topic, value, key.encode(), partition=partition)
            _leave_offsets(consumer, producer)
            producer.commit()
        finally:
            producer.close()
    return len(changed)


def _store_of(aggregate: type[Aggregate], service: Service) -> Store[Any]:
    rules_of(aggregate)
    for handler in service.handlers:
        if isinstance(handler.function, Runner) and handler.function.aggregate is aggregate:
            return handler.stores[0]
    raise DeclarationError(
        f"{aggregate.__name__} is not mounted on {service.name}: name the service whose "
        "snapshots of it are to be rebuilt"
    )


def _settle(kafka: Kafka, topics: tuple[str, ...], timeout: float) -> None:
    """Make sure that what instances that are gone have committed can be read from now on."""
    partitions = [(topic, number) for topic in topics for number in range(partitions_of(kafka, topic, timeout))]
    wait_for_transactions(kafka, partitions, timeout)


def _replayed(aggregate: type[Aggregate], store: Store[Any], kafka: Kafka, contracts: Contracts) -> dict[str, Any]:
    rules = rules_of(aggregate)
    decode: Callable[[bytes | None], Contract] = contracts.decoder([rules.topic]).decode
    found: dict[str, Any] = {}
    for batch in kafka.read_to_end(rules.topic.name, isolation="read_committed"):
        for message in batch:
            event = decode(message.value())
            if (evolve := rules.evolutions.get(type(event))) is None:
                continue
            key = (message.key() or b"").decode()
            before = found.get(key)
            state, version = (aggregate(), 0) if before is None else (before.state, before.version)
            id = envelope_from(message, type(event)).id
            found[key] = store.value(state=evolve(state, event), version=version + 1, last_event_id=id)
    return found


def _stored(kafka: Kafka, topic: str) -> dict[str, bytes | None]:
    batches = kafka.read_to_end(topic, isolation="read_committed")
    return {(message.key() or b"").decode(): message.value() for batch in batches for message in batch}


@contextmanager
def _alone(service: Service, kafka: Kafka, timeout: float) -> Generator[Consumer]:
    """While all partitions of the service's commands are ours, no other process decides on any."""
    group = service.group(Kind.KAFKA)
    consumer = kafka.consumer(group, instance=f"{group}-rebuild", co_partitioned=True)
    try:
        consumer.subscribe([topic.name for topic in service.consumed(Kind.KAFKA)], on_assigned=_at_end)
        deadline = time.monotonic() + timeout
        while len(consumer.assignment()) < sum(topic.partitions for topic in service.consumed(Kind.KAFKA)):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{service.name} is running, or was until less than its session timeout ago: after {timeout:g} s "
                    f"the group {group} still has other members. Stop all its instances, and rebuild then"
                )
            consumer.poll_batch(1, 0.1)
        # Without polling there is no rebalance: who joins now waits.
        yield consumer
    finally:
        consumer.close()


def _at_end(partitions: list[TopicPartition]) -> Offsets:
    return dict.fromkeys(partitions, END)


def _leave_offsets(consumer: Consumer, producer: TransactionalProducer) -> None:
    """As they are, within the transaction: the broker refuses it if the group has gone on without us."""
    committed = consumer.committed(consumer.assignment())
    offsets = {partition: found.offset for partition, found in committed.items() if found.offset is not None}
    notes = {partition: committed[partition].metadata for partition in offsets}
    producer.send_offsets(offsets, consumer.group_metadata(), notes)
