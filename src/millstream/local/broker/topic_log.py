"""Topics of a broker in this process, without a network between: for the registry, which lives beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.aborted import Aborted
from millstream.local.broker.log.batch import BatchHeader, build_batch, iter_records, read_header
from millstream.local.broker.partition import Partition


class TopicLog:
    """Creates, appends to and reads topics of `broker`. Every method raises Refused with Kafka's error code.

    Not for use from another thread than the broker's. Clients that wait for the topic see what is appended here.

        log = TopicLog(broker)
        await log.create_topic("_schemas", partitions=1, config={"cleanup.policy": "compact"})
        offset = await log.append("_schemas", 0, [(b"key", b"value")])
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        """Create `topic`; do nothing when it exists."""
        if topic not in self._broker.topics.by_name:
            self._broker.topics.create(topic, partitions, config)

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None]]) -> int:
        """Append `(key, value)` records as one batch, return the first one's offset once they are durable."""
        batch = build_batch(records, self._broker.clock())
        found = self._find(topic, partition)
        rules = self._broker.topics.get(topic).rules
        base_offset = found.append(batch, rules, self._broker.clock()).base_offset
        self._broker.settle()
        self._broker.flush()
        return base_offset

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        """Every committed record `(offset, key, value)` from `from_offset` to the present stable end, in order.

        Records without a key are left out: in a compacted topic they stand for nothing.
        """
        return self._records(self._find(topic, partition), from_offset)

    @staticmethod
    def _records(partition: Partition, from_offset: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        aborted = partition.aborted_between(from_offset)
        for batch in partition.log.batches(from_offset):
            header = read_header(batch)
            if header.base_offset >= partition.stable_offset:
                return
            if header.is_control or _was_aborted(header, aborted):
                continue
            for record in iter_records(batch):
                if record.offset >= from_offset and record.key is not None:
                    yield record.offset, record.key, record.value

    async def cluster_id(self) -> str:
        """The broker's cluster id, as Metadata tells it."""
        return self._broker.cluster_id

    def _find(self, topic: str, partition: int) -> Partition:
        found = self._broker.topics.partition(topic, partition)
        if found is None:
            raise Refused(ErrorCode.unknown_topic_or_partition, f"no partition {topic}-{partition}")
        return found


def _was_aborted(header: BatchHeader, aborted: Sequence[Aborted]) -> bool:
    return header.is_transactional and any(
        of.producer_id == header.producer_id and of.first_offset <= header.base_offset < of.marker_offset
        for of in aborted
    )
