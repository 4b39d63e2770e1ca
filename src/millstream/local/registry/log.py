"""What the registry needs of a broker: one topic that it can create, append to and read back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Overtaken(Exception):
    """Nothing was appended, because another registry has written since this one read last."""


class TopicLog(Protocol):
    """A broker's topics: the local broker gives this in its own process, `kafka_log.KafkaLog` over the network."""

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        """Create `topic`; do nothing when it exists."""
        ...

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Append `(key, value)` records together, return the first one's offset once they are durable.

        Raises `Overtaken`: read, decide again, and append once more.
        """
        ...

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        """Every record `(offset, key, value)` from `from_offset` to the present end, in order."""
        ...

    async def cluster_id(self) -> str:
        """The Kafka cluster's own id."""
        ...
