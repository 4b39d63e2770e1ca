"""Transactions: outputs, changelogs and dead letters commit with the offsets of the events that they came from."""

from collections.abc import Mapping
from typing import Any, Protocol

from millstream.declare import Service
from millstream.errors import Fenced, KafkaFault, TopicMissing, TransactionAborted
from millstream.kafka.port import Headers, Kafka, Offsets, TopicPartition


class Member(Protocol):
    """The part of a consumer that a transaction needs."""

    def group_metadata(self) -> Any: ...
    def commit(self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None: ...


class Transaction(Protocol):
    """One after the other, from one thread. Whatever is raised, `begin` may be called again, except after `Fenced`."""

    def start(self) -> None:
        """Settle the transaction that a predecessor left open. Raises `Unavailable` if no broker answers."""
        ...

    def begin(self) -> None: ...

    def keep_to(self, batch_bytes: int) -> None:
        """Let several records make no batch above this size; called while no transaction is open."""
        ...

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
    ) -> None: ...

    def commit(self, consumer: Member, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None:
        """Commit everything since `begin`, and the offsets with their metadata.

        Raises `TransactionAborted` where it has to be done again, `CommitUnknown` where that is not known; then
        `start`, and read the committed offsets.
        """
        ...

    def abort(self) -> None: ...
    def close(self) -> None: ...


class ExactlyOnce:
    """A Kafka transaction.

    `transactional_id` is the same in every incarnation of a slot: a new one fences the previous.
    """

    def __init__(self, kafka: Kafka, transactional_id: str) -> None:
        self._producer = kafka.transactional_producer(transactional_id)
        self.start = self._producer.init
        self.begin = self._producer.begin
        self.keep_to = self._producer.keep_to
        self.produce = self._producer.produce
        self.abort = self._producer.abort
        self.close = self._producer.close

    def commit(self, consumer: Member, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None:
        self._producer.send_offsets(offsets, consumer.group_metadata(), metadata)
        self._producer.commit()


class AtLeastOnce:
    """Records first, offsets after them: what fails in between is done again, and its records are there twice."""

    def __init__(self, kafka: Kafka) -> None:
        self._producer = kafka.producer()
        self.produce = self._producer.produce
        self.close = self._producer.close

    def start(self) -> None:
        """Do nothing: a predecessor leaves nothing open."""

    def begin(self) -> None:
        """Do nothing: no record is held back."""

    def keep_to(self, batch_bytes: int) -> None:
        self._producer.keep_to(batch_bytes)

    def abort(self) -> None:
        """Do nothing: records that are written stay."""

    def commit(self, consumer: Member, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None:
        try:
            self._producer.flush()
            consumer.commit(offsets, metadata)
        except (Fenced, TopicMissing):
            raise
        except KafkaFault as fault:
            raise TransactionAborted(f"{fault} Doing it again.") from fault


def transaction_for(service: Service, kafka: Kafka, transactional_id: str) -> Transaction:
    """Return what commits together, as the service declares its `delivery`."""
    return ExactlyOnce(kafka, transactional_id) if service.delivery == "exactly_once" else AtLeastOnce(kafka)
