"""The base of all simulated clients: a connection, requests repeated until they are answered, and calls that wait."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from millstream.errors import EncodeError, KafkaFault, Unavailable
from millstream.kafka.faults import fault_of
from millstream.kafka.port import Isolation, Offsets, TopicPartition
from millstream.testing.simulation.cluster import protocol
from millstream.testing.simulation.cluster.broker import ConnectionLost
from millstream.testing.simulation.cluster.connection import Connection
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.scheduler.tasks import Steps

T = TypeVar("T")

AGAIN = 0.05
"""Seconds until a request is repeated."""
TRANSIENT = frozenset({3, 5, 6, 7, 13, 14, 15, 16, 51, 88})
"""Errors that go away by themselves: elections, loading, a transaction that is just ending."""
EARLIEST, LATEST = -2, -1
"""Kafka's timestamps for the beginning and the end of a partition."""
FETCH_BYTES = 1 << 20


class Client:
    """Speaks to the broker for the process that made it: it ends with that process."""

    def __init__(self, host: Host, client_id: str) -> None:
        self.host = host
        self.scheduler = host.scheduler
        self.incarnation = host.scheduler.incarnation
        self.client_id = client_id
        self.connection = self.connect()
        self.broken = False
        """True once a connection of this client broke before an answer."""
        self._partition_counts: dict[str, int] = {}

    def connect(self) -> Connection:
        """Return another connection for the same process."""
        return Connection(self.host.broker, self.incarnation)

    def record(self, what: str) -> None:
        """Add a line to the timeline."""
        self.scheduler.record(self.incarnation.name, what)

    def do(self, steps: Steps[T], timeout: float, doing: str) -> T:
        """Wait until the steps are done. Raises `Unavailable` after `timeout` seconds, and what they raise."""
        task = self.incarnation.task(steps)
        if not self.scheduler.wait(lambda: task.done, timeout):
            task.cancel()
            raise Unavailable(f"No answer from Kafka ({self.host.broker.address}) while {doing} for {timeout:g} s.")
        return task.result()

    def ask_once(self, api: str, /, *, over: Connection | None = None, **values: Any) -> Steps[Any]:
        """Send a request and return its answer. Raises `ConnectionLost` where the connection breaks."""
        frame = protocol.request(api, self.client_id, values)
        try:
            answer = yield (over or self.connection).ask(protocol.api(api).key, frame)
        except ConnectionLost:
            self.broken = True
            raise
        return protocol.answer(api, answer)

    def ask(self, api: str, /, *, over: Connection | None = None, **values: Any) -> Steps[Any]:
        """Send a request until there is an answer."""
        while True:
            try:
                return (yield from self.ask_once(api, over=over, **values))
            except ConnectionLost:
                yield AGAIN

    # Requests of several clients

    def metadata(self, topics: Sequence[str] | None) -> Steps[Any]:
        """Return the metadata of these topics; of all, with None."""
        wanted = None if topics is None else [{"name": name} for name in topics]
        return self.ask("metadata", topics=wanted)

    def partitions_of(self, topics: Sequence[str]) -> Steps[dict[str, int]]:
        """Return how many partitions each of these topics has, without those that do not exist."""
        if not all(topic in self._partition_counts for topic in topics):
            answer = yield from self.metadata(topics)
            found = {topic.name: len(topic.partitions) for topic in answer.topics if not topic.error_code}
            self._partition_counts.update(found)
        return {topic: self._partition_counts[topic] for topic in topics if topic in self._partition_counts}

    def offsets_now(
        self, wanted: dict[TopicPartition, int], isolation: Isolation, doing: str
    ) -> Steps[dict[TopicPartition, int]]:
        """Return the offsets of `EARLIEST`, `LATEST` and timestamps as of now; -1 for a timestamp after the end."""
        topics = [
            {"name": topic, "partitions": [{"partition_index": index, "timestamp": at} for index, at in timestamps]}
            for topic, timestamps in by_topic(wanted).items()
        ]
        level = 1 if isolation == "read_committed" else 0
        while topics:
            answer = yield from self.ask("list_offsets", replica_id=-1, isolation_level=level, topics=topics)
            entries = [(topic.name, entry) for topic in answer.topics for entry in topic.partitions]
            failed = next(((topic, entry.error_code) for topic, entry in entries if entry.error_code), None)
            if failed is None:
                return {(topic, entry.partition_index): entry.offset for topic, entry in entries}
            topic, error = failed
            if error not in TRANSIENT - {3}:
                raise fault_of(error, f"{doing} of {topic}")
            yield AGAIN
        return {}

    def committed_offsets(
        self, group: str, partitions: Sequence[TopicPartition] | None, doing: str
    ) -> Steps[dict[TopicPartition, tuple[int, str]]]:
        """Return offset, or -1, and metadata; waits for transactions that are about to change them."""
        topics = None
        if partitions is not None:
            wanted = by_topic(dict.fromkeys(partitions, 0))
            topics = [
                {"name": topic, "partition_indexes": [index for index, _ in each]} for topic, each in wanted.items()
            ]
        while True:
            answer = yield from self.ask("offset_fetch", group_id=group, topics=topics, require_stable=True)
            entries = [(topic.name, entry) for topic in answer.topics for entry in topic.partitions]
            error = answer.error_code or next((entry.error_code for _, entry in entries if entry.error_code), 0)
            if not error:
                return {
                    (name, entry.partition_index): (entry.committed_offset, entry.metadata or "")
                    for name, entry in entries
                }
            if error not in TRANSIENT:
                raise fault_of(error, doing)
            yield AGAIN

    def fetch(
        self,
        offsets: dict[TopicPartition, int],
        isolation: Isolation,
        wait_ms: int,
        over: Connection,
    ) -> Steps[dict[TopicPartition, Any]]:
        """Return what the broker has from these offsets on, by partition, as it comes."""
        topics = [
            {
                "topic": topic,
                "partitions": [
                    {
                        "partition": index, "current_leader_epoch": -1, "fetch_offset": offset,
                        "log_start_offset": -1, "partition_max_bytes": FETCH_BYTES,
                    }
                    for index, offset in each
                ],
            }
            for topic, each in by_topic(offsets).items()
        ]  # fmt: skip
        answer = yield from self.ask_once(
            "fetch",
            over=over,
            replica_id=-1,
            max_wait=wait_ms,
            min_bytes=1,
            max_bytes=FETCH_BYTES,
            isolation_level=1 if isolation == "read_committed" else 0,
            session_epoch=-1,
            topics=topics,
        )
        return {(topic.topic, entry.partition_index): entry for topic in answer.responses for entry in topic.partitions}


def by_topic(numbers: dict[TopicPartition, int]) -> dict[str, list[tuple[int, int]]]:
    """Group numbers of partitions by topic."""
    found: dict[str, list[tuple[int, int]]] = {}
    for (topic, index), number in numbers.items():
        found.setdefault(topic, []).append((index, number))
    return found


def offsets_by_topic(offsets: Offsets, notes: Mapping[TopicPartition, str]) -> list[dict[str, Any]]:
    """Return offsets as the requests of both kinds of commit have them."""
    return [
        {
            "name": topic,
            "partitions": [
                {
                    "partition_index": index,
                    "committed_offset": offset,
                    "committed_leader_epoch": -1,
                    "committed_metadata": notes.get((topic, index), ""),
                }
                for index, offset in entries
            ],
        }
        for topic, entries in by_topic(dict(offsets)).items()
    ]


def failure_of(error: int, doing: str) -> KafkaFault | EncodeError:
    """Return the error of our tree for an error code of the protocol."""
    return fault_of(int(error), doing)
