"""The registry's topic in a Kafka over the network: Apache Kafka, or a local broker in another process.

Registries beside each other take turns by fencing: all write in transactions under one transactional id, of which Kafka
lets the newest holder alone commit. So whoever commits has read all that was written before, without electing anybody.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from random import uniform

from millstream.errors import CommitUnknown, Fenced, KafkaFault, TransactionAborted, Unavailable
from millstream.kafka import TopicSpec, connect
from millstream.kafka.port import TopicPartition, TransactionalProducer
from millstream.local.registry.log import Overtaken
from millstream.settings import Settings

WAIT_SECONDS = 30.0
READ_WAIT_SECONDS = 5.0
TRANSACTIONAL_ID = "millstream-schema-registry"
_PAUSE_SECONDS = 0.2


class KafkaLog:
    """A `TopicLog` on the cluster that `settings` name. Calls wait in a thread: 30 s at most to write, 5 s to read."""

    def __init__(self, settings: Settings) -> None:
        # Uncompressed, so that every registry can read it, whatever codecs it has.
        uncompressed = settings.model_copy(update={"kafka": {**settings.kafka, "compression.type": "none"}})
        self._kafka = connect(uncompressed, client_id="schema-registry")
        self._admin = self._kafka.admin()
        self._turn: TransactionalProducer | None = None
        """Ours until another registry takes it; while it is, nobody else has written."""
        self._read_up_to = 0

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        await asyncio.to_thread(self._admin.ensure_topics, [TopicSpec(topic, partitions, config)])

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        return await asyncio.to_thread(self._append, topic, partition, records)

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        return await asyncio.to_thread(self._read, topic, partition, from_offset)

    async def cluster_id(self) -> str:
        return await asyncio.to_thread(self._admin.cluster_id)

    async def close(self) -> None:
        await asyncio.to_thread(self._give_up_turn)
        await asyncio.to_thread(self._admin.close)

    def _append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        place = (topic, partition)
        turn = self._turn or self._take_turn(place)
        try:
            turn.begin(WAIT_SECONDS)
            for key, value in records:
                turn.produce(topic, value, key, partition=partition)
            turn.commit(WAIT_SECONDS)
        except (Fenced, TransactionAborted, CommitUnknown) as taken:
            # Written or not: reading tells, and a decision that is carried out already is not carried out twice.
            self._give_up_turn()
            time.sleep(uniform(0.0, _PAUSE_SECONDS))  # noqa: S311 (no secret)
            raise Overtaken from taken
        except Exception:
            self._give_up_turn()
            raise
        return self._settled(place) - len(records)

    def _take_turn(self, place: TopicPartition) -> TransactionalProducer:
        """Shut out every other writer. Raises `Overtaken` if one has written since we read last."""
        turn = self._turn = self._kafka.transactional_producer(TRANSACTIONAL_ID)
        try:
            turn.init(WAIT_SECONDS)
        except Fenced as taken:
            self._give_up_turn()
            raise Overtaken from taken
        except Exception:
            self._give_up_turn()
            raise
        if self._end(place) != self._read_up_to:
            raise Overtaken
        return turn

    def _give_up_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.close()

    def _settled(self, place: TopicPartition) -> int:
        """Wait until what was committed can be read: Kafka answers a commit before that. The end of the topic then."""
        written = self._admin.end_offsets([place], "read_uncommitted", timeout=WAIT_SECONDS)[place]
        deadline = time.monotonic() + WAIT_SECONDS
        while (end := self._end(place)) < written:
            if time.monotonic() > deadline:
                raise Unavailable(f"{place[0]} does not show what was committed to it after {WAIT_SECONDS:g} s.")
            time.sleep(0.005)
        return end

    def _end(self, place: TopicPartition) -> int:
        deadline = time.monotonic() + READ_WAIT_SECONDS
        while True:
            try:
                return self._admin.end_offsets([place], timeout=READ_WAIT_SECONDS)[place]
            except KafkaFault:
                # A Kafka that comes back has no leaders for a moment, and librdkafka says so in several ways.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _read(self, topic: str, partition: int, from_offset: int) -> list[tuple[int, bytes, bytes | None]]:
        place = (topic, partition)
        end = self._end(place)
        # The end of a transaction is a record too, which nobody reads.
        if end <= max(from_offset, self._read_up_to):
            return []
        batches = self._kafka.read_to_end(topic, [partition], start={place: from_offset}, timeout=READ_WAIT_SECONDS)
        found = [(record.offset(), record.key() or b"", record.value()) for batch in batches for record in batch]
        self._read_up_to = end
        return found
