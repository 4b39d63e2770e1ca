"""The registry's topic in a Kafka over the network: Apache Kafka, or a local broker in another process."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from millstream.errors import KafkaFault
from millstream.kafka import Message, TopicSpec, connect
from millstream.settings import Settings

WAIT_SECONDS = 30.0


class KafkaLog:
    """A `TopicLog` on the cluster that `settings` name; every call waits in a thread, for some 30 s at most."""

    def __init__(self, settings: Settings) -> None:
        # Uncompressed, so that a registry inside a local broker can read it, which has gzip at most.
        uncompressed = settings.model_copy(update={"kafka": {**settings.kafka, "compression.type": "none"}})
        self._kafka = connect(uncompressed, client_id="schema-registry")
        self._admin = self._kafka.admin()
        self._offset = -1
        self._producer = self._kafka.producer(on_delivery=self._note)

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        await asyncio.to_thread(self._admin.ensure_topics, [TopicSpec(topic, partitions, config)])

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        return await asyncio.to_thread(self._append, topic, partition, records)

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        return await asyncio.to_thread(self._read, topic, partition, from_offset)

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.close)
        await asyncio.to_thread(self._admin.close)

    def _append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        for key, value in records:
            self._producer.produce(topic, value, key, partition=partition)
        self._producer.flush()
        return self._offset - len(records) + 1

    def _note(self, fault: KafkaFault | None, message: Message) -> None:
        if fault is None:
            self._offset = message.offset()

    def _read(self, topic: str, partition: int, from_offset: int) -> list[tuple[int, bytes, bytes | None]]:
        place = (topic, partition)
        if self._admin.end_offsets([place], timeout=WAIT_SECONDS)[place] <= from_offset:
            return []
        batches = self._kafka.read_to_end(topic, [partition], start={place: from_offset}, timeout=WAIT_SECONDS)
        return [(message.offset(), message.key() or b"", message.value()) for batch in batches for message in batch]
