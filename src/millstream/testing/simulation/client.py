"""What all simulated clients have: a connection, questions asked until they are answered, and calls that wait."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from millstream.errors import EncodeError, KafkaFault, Unavailable
from millstream.kafka.faults import fault_of
from millstream.kafka.port import Isolation, TopicPartition
from millstream.testing.simulation import codec
from millstream.testing.simulation.network import Connection, HungUp
from millstream.testing.simulation.tasks import Steps

if TYPE_CHECKING:
    from millstream.testing.simulation.world import World

T = TypeVar("T")

AGAIN = 0.05
"""Seconds until a question is asked again."""
PASSING = frozenset({3, 5, 6, 7, 13, 14, 15, 16, 51, 88})
"""Errors that go away by themselves: elections, loading, a transaction that is just ending."""
BEFORE_EVERYTHING, AFTER_EVERYTHING = -2, -1
MOST_BYTES = 1 << 20


class Client:
    """Speaks to the broker for the process that made it."""

    def __init__(self, world: "World", client_id: str) -> None:
        self.world = world
        self.life = world.life
        self.client_id = client_id
        self.connection = Connection(world.broker, self.life, client_id)
        self.broken = False
        """Whether a connection of this client ever broke before an answer."""
        self._counts: dict[str, int] = {}

    def tell(self, what: str) -> None:
        """A line in the world's story."""
        self.world.tell(self.life.name, what)

    def do(self, steps: Steps[T], timeout: float, doing: str) -> T:
        """Wait until the steps are done. Raises `Unavailable` after `timeout` seconds, and what they raise."""
        task = self.life.task(steps)
        if not self.world.wait(lambda: task.done, timeout):
            task.cancel()
            raise Unavailable(f"No answer from Kafka ({self.world.broker.address}) while {doing} for {timeout:g} s.")
        return task.result()

    def ask_once(self, api: str, /, *, over: Connection | None = None, **values: Any) -> Steps[Any]:
        """Ask; raises `HungUp` where the connection breaks."""
        frame = codec.request(api, self.client_id, values)
        try:
            answer = yield (over or self.connection).ask(codec.api(api).key, frame)
        except HungUp:
            self.broken = True
            raise
        return codec.answer(api, answer)

    def ask(self, api: str, /, *, over: Connection | None = None, **values: Any) -> Steps[Any]:
        """Ask until there is an answer."""
        while True:
            try:
                return (yield from self.ask_once(api, over=over, **values))
            except HungUp:
                yield AGAIN

    # Questions that several clients have

    def metadata(self, topics: Sequence[str] | None) -> Steps[Any]:
        """All topics, with None."""
        wanted = None if topics is None else [{"name": name} for name in topics]
        return self.ask("metadata", topics=wanted)

    def partitions_of(self, topics: Sequence[str]) -> Steps[dict[str, int]]:
        """How many partitions each of those has that are there."""
        if not all(topic in self._counts for topic in topics):
            answer = yield from self.metadata(topics)
            found = {topic.name: len(topic.partitions) for topic in answer.topics if not topic.error_code}
            self._counts.update(found)
        return {topic: self._counts[topic] for topic in topics if topic in self._counts}

    def offsets_now(
        self, wanted: dict[TopicPartition, int], isolation: Isolation, doing: str
    ) -> Steps[dict[TopicPartition, int]]:
        """What the places -2 (the beginning), -1 (the end) and moments are just now; -1 for a moment after the end."""
        topics = [
            {"name": topic, "partitions": [{"partition_index": index, "timestamp": at} for index, at in places]}
            for topic, places in by_topic(wanted).items()
        ]
        level = 1 if isolation == "read_committed" else 0
        while topics:
            answer = yield from self.ask("list_offsets", replica_id=-1, isolation_level=level, topics=topics)
            entries = [(topic.name, entry) for topic in answer.topics for entry in topic.partitions]
            failed = next(((topic, entry.error_code) for topic, entry in entries if entry.error_code), None)
            if failed is None:
                return {(topic, entry.partition_index): entry.offset for topic, entry in entries}
            topic, error = failed
            if error not in PASSING - {3}:
                raise fault_of(error, f"{doing} of {topic}")
            yield AGAIN
        return {}

    def committed_offsets(
        self, group: str, partitions: Sequence[TopicPartition] | None, doing: str
    ) -> Steps[dict[TopicPartition, tuple[int, str]]]:
        """Offset, or -1, and note; waits for transactions that are about to change them."""
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
            if error not in PASSING:
                raise fault_of(error, doing)
            yield AGAIN

    def fetch(
        self,
        places: dict[TopicPartition, int],
        isolation: Isolation,
        wait_ms: int,
        over: Connection,
    ) -> Steps[dict[TopicPartition, Any]]:
        """What the broker has from these offsets on, by partition, as it comes."""
        topics = [
            {
                "topic": topic,
                "partitions": [
                    {
                        "partition": index, "current_leader_epoch": -1, "fetch_offset": offset,
                        "log_start_offset": -1, "partition_max_bytes": MOST_BYTES,
                    }
                    for index, offset in each
                ],
            }
            for topic, each in by_topic(places).items()
        ]  # fmt: skip
        answer = yield from self.ask_once(
            "fetch",
            over=over,
            replica_id=-1,
            max_wait=wait_ms,
            min_bytes=1,
            max_bytes=MOST_BYTES,
            isolation_level=1 if isolation == "read_committed" else 0,
            session_epoch=-1,
            topics=topics,
        )
        return {(topic.topic, entry.partition_index): entry for topic in answer.responses for entry in topic.partitions}


def by_topic(places: dict[TopicPartition, int]) -> dict[str, list[tuple[int, int]]]:
    """Partitions with their numbers, by topic."""
    found: dict[str, list[tuple[int, int]]] = {}
    for (topic, index), number in places.items():
        found.setdefault(topic, []).append((index, number))
    return found


def failure_of(error: int, doing: str) -> KafkaFault | EncodeError:
    """The error in our tree for an error code of the protocol."""
    return fault_of(int(error), doing)
