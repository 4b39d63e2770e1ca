"""Kafka behind one small port; librdkafka is imported when a client is first made, not before."""

from typing import TYPE_CHECKING

from millstream.kafka.partitioner import partition_of
from millstream.kafka.port import (
    BEGINNING,
    END,
    HOLD,
    Admin,
    Committed,
    Consumer,
    Headers,
    Isolation,
    Kafka,
    Message,
    Offsets,
    PartitionLag,
    Producer,
    TopicInfo,
    TopicPartition,
    TopicSpec,
    TransactionalProducer,
)
from millstream.kafka.unreadable import headers_of

if TYPE_CHECKING:
    from millstream.settings import Settings


def connect(settings: "Settings", client_id: str = "millstream") -> Kafka:
    """The cluster that `settings` name. `client_id` says in brokers' logs and metrics who this is: `"inventory-0"`.

    Nothing is sent before the first client made from it needs to.
    """
    from millstream.kafka.librdkafka import Librdkafka

    return Librdkafka(settings, client_id)


__all__ = [
    "BEGINNING",
    "END",
    "HOLD",
    "Admin",
    "Committed",
    "Consumer",
    "Headers",
    "Isolation",
    "Kafka",
    "Message",
    "Offsets",
    "PartitionLag",
    "Producer",
    "TopicInfo",
    "TopicPartition",
    "TopicSpec",
    "TransactionalProducer",
    "connect",
    "headers_of",
    "partition_of",
]
