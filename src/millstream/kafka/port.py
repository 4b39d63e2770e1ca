"""The port: all that Millstream asks of Kafka.

librdkafka stands behind it (`millstream.kafka.connect`), and in simulated tests the local broker's core with virtual
time. Offsets are always those of the next record to read. A partition is the plain pair `(topic, partition)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from millstream.errors import KafkaFault
from millstream.timeouts import CHANGE_TIMEOUT, CLOSE_TIMEOUT, READ_TIMEOUT, REQUEST_TIMEOUT

TopicPartition: TypeAlias = tuple[str, int]
Offsets: TypeAlias = Mapping[TopicPartition, int]
Headers: TypeAlias = list[tuple[str, bytes | None]]
"""Names and values, in order. A header may have no value (`None`), which is not the same as an empty one."""
Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]
OnAssigned: TypeAlias = Callable[[list[TopicPartition]], Offsets | None]
OnTaken: TypeAlias = Callable[[list[TopicPartition]], None]

BEGINNING = -2
"""As a start offset: the first record there is."""
END = -1
"""As a start offset: only what comes from now on."""
HOLD = -3
"""As a start offset: read nothing of this partition while it is assigned."""


class Message(Protocol):
    """A record as it came. Accessors are methods, so that librdkafka's own objects fit without a wrapper."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None:
        """Raises `DecodeError` (`headers_unreadable`) where they cannot be decoded, each time it is asked."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """Its kind (0 none, 1 the producer's, 2 the broker's) and milliseconds since 1970."""
        ...


class Committed(NamedTuple):
    """A position that a group has committed for a partition; `offset` is None when it never did."""

    offset: int | None
    metadata: str = ""


class Consumer(Protocol):
    """A member of a group. Used by one thread; callbacks run on it, inside `poll_batch` and `close`."""

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        on_assigned: OnAssigned | None = None,
        on_revoked: OnTaken | None = None,
        on_lost: OnTaken | None = None,
    ) -> None:
        """Take part in reading `topics`.

        - `on_assigned(partitions)`: new ones only; may answer start offsets; they win over committed ones. One that
          is answered `HOLD` stays with this member, unread: `assignment` leaves it out.
        - `on_revoked(partitions)`: still ours while it runs: commit what is finished.
        - `on_lost(partitions)`: another member has them: drop what is unfinished. Default: as `on_revoked`.
        """
        ...

    def poll_batch(self, max_records: int = 200, timeout: float = 0.1) -> list[Message]:
        """Up to `max_records` records, at once if there are any; waits at most `timeout` seconds for the first.

        May return an empty list early. Records of partitions that went away meanwhile are left out. Passing troubles
        are counted, logged and waited out. Raises `Fenced`, `TopicMissing`, or `KafkaFault` for what will not pass.
        """
        ...

    def assignment(self) -> list[TopicPartition]: ...
    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Bring no records of these partitions until they are resumed, or assigned again."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...

    def seek(self, offsets: Offsets) -> None:
        """Read on from these offsets; records that were fetched already are dropped."""
        ...

    def rewind(self, timeout: float = REQUEST_TIMEOUT) -> None:
        """Seek every assigned partition to its committed offset: what to do after an aborted transaction."""
        ...

    def position(self) -> dict[TopicPartition, int]:
        """The next offset of each assigned partition that has delivered anything or is at its end."""
        ...

    def committed(
        self, partitions: Sequence[TopicPartition], timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, Committed]: ...

    def watermarks(self, partition: TopicPartition, timeout: float = REQUEST_TIMEOUT) -> tuple[int, int]:
        """The first offset there is, and the end (of what is committed, with `read_committed`)."""
        ...

    def lag(self) -> dict[TopicPartition, int]:
        """The lag of each assigned partition, from what is known without asking; costs nothing."""
        ...

    def commit(
        self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> None:
        """Commit and wait for the answer.

        Raises `Fenced`; `Unavailable` without a broker, or at once in a rebalance: poll, then commit what is left.
        """
        ...

    def group_metadata(self) -> Any:
        """For `TransactionalProducer.send_offsets`; ask for it afresh each time."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Hand partitions back (`on_revoked`) and leave. Never takes much longer than `timeout` seconds."""
        ...


class Producer(Protocol):
    """Writes records outside transactions: idempotent, `acks=all`."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        """Queue a record. Waits while the queue is full.

        `partition` -1: by the key, as Java does (murmur2). `timestamp`: milliseconds since 1970; 0 is now. Raises
        `EncodeError` for a record too large and `Unavailable` when the queue stays full.
        """
        ...

    def poll(self, timeout: float = 0.0) -> None:
        """Run delivery reports that have come in."""
        ...

    def keep_to(self, batch_bytes: int) -> None:
        """Let several records make no batch above this size, before compression: none that their topic refuses.

        Called while nothing is queued and no transaction is open.
        """
        ...

    def flush(self, timeout: float = CHANGE_TIMEOUT) -> None:
        """Wait until all is delivered. Raises the first failure since the last `flush`, or `Unavailable`."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Deliver what can be delivered in `timeout` seconds, then let go."""
        ...


class TransactionalProducer(Protocol):
    """Writes records, and offsets of what they were made from, in transactions. One at a time, from one thread.

    Whatever is raised, the producer is usable again from `begin()`, except after `Fenced`:

    - `TransactionAborted`: it is aborted already; nothing of it is or will be visible. Rewind and do it again.
    - `CommitUnknown`: whole or absent. The next `begin()` settles which, then committed offsets tell.
    - `Fenced`: a newer holder of this transactional id, or the broker ended a transaction that stayed open too long.
      Stop. If it came from `commit`, the outcome is unknown too.
    - `Unavailable` (`init` and `begin` alone): nothing was begun.
    - `EncodeError` from `produce`: the record is above the client's own limit; it alone is left out.
    - `RecordsRefused`, an `EncodeError` too, from any call: a broker refuses a batch for a record in it. `TopicMissing`
      or plain `KafkaFault`: something else that the cluster refuses. The transaction is aborted.
    """

    def init(self, timeout: float = CHANGE_TIMEOUT) -> None:
        """Fence predecessors of the same transactional id and settle their transactions; `begin` does so at need."""
        ...

    def begin(self, timeout: float = CHANGE_TIMEOUT) -> None: ...

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None: ...

    def keep_to(self, batch_bytes: int) -> None:
        """Let several records make no batch above this size, before compression: none that their topic refuses.

        Called while nothing is queued and no transaction is open.
        """
        ...

    def send_offsets(
        self, offsets: Offsets, group_metadata: Any, metadata: Mapping[TopicPartition, str] | None = None
    ) -> None:
        """Let the group's offsets become committed with the transaction."""
        ...

    def commit(self, timeout: float | None = None) -> None:
        """Returns when everything is committed. `timeout`: seconds; default: the transaction timeout."""
        ...

    def abort(self, timeout: float = REQUEST_TIMEOUT) -> None:
        """Nothing of the transaction becomes visible. Harmless without one. Raises only `Fenced`."""
        ...

    @property
    def open_seconds(self) -> float:
        """The seconds for which the current transaction has been open; 0 without one."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Abort what is open and let go."""
        ...


class TopicSpec(NamedTuple):
    """A topic that is wanted. `config`: the broker's topic configuration, such as `{"cleanup.policy": "compact"}`."""

    name: str
    partitions: int
    config: Mapping[str, str] = {}


class TopicInfo(NamedTuple):
    """A topic that is there."""

    name: str
    partitions: int
    replication: int


class PartitionLag(NamedTuple):
    """The lag of a group in one partition: `lag` counts records still to be read, not transaction markers."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class Admin(Protocol):
    """Questions to the cluster, and topics made and deleted. Every call is bounded by its `timeout` in seconds."""

    def cluster_id(self, timeout: float = REQUEST_TIMEOUT) -> str: ...
    def brokers(self, timeout: float = REQUEST_TIMEOUT) -> list[str]: ...
    def topics(self, timeout: float = REQUEST_TIMEOUT) -> dict[str, TopicInfo]: ...
    def topic_config(self, topic: str, timeout: float = REQUEST_TIMEOUT) -> dict[str, str]: ...

    def ensure_topics(self, specs: Sequence[TopicSpec], timeout: float = CHANGE_TIMEOUT) -> list[str]:
        """Make those that are missing, wait until all have leaders, and name the ones made.

        Several processes may do so at once. A topic with more partitions than are wanted is left as it is. Raises
        `ConfigurationError` if one has fewer (they are never added here: keys would move), `Unavailable` if it takes
        too long.
        """
        ...

    def topic_ids(self, topics: Sequence[str], timeout: float = REQUEST_TIMEOUT) -> dict[str, str]:
        """The id of each of `topics` that is there: 22 characters, other ones for a topic that was deleted and made
        again. Empty where brokers give topics no ids (before Apache Kafka 2.8)."""
        ...

    def grow_topics(self, partitions: Mapping[str, int], timeout: float = CHANGE_TIMEOUT) -> None:
        """Give each topic so many partitions, and wait until all have leaders.

        Raises `ConfigurationError` for a topic that has as many already, `TopicMissing`.
        """
        ...

    def delete_topics(self, names: Sequence[str], timeout: float = CHANGE_TIMEOUT) -> None: ...
    def groups(self, timeout: float = REQUEST_TIMEOUT) -> list[str]: ...
    def group_offsets(self, group: str, timeout: float = REQUEST_TIMEOUT) -> dict[TopicPartition, Committed]: ...

    def group_members(self, group: str, timeout: float = REQUEST_TIMEOUT) -> int:
        """The number of members that the group has now, those whose session has not run out yet among them."""
        ...

    def set_group_offsets(self, group: str, offsets: Offsets, timeout: float = REQUEST_TIMEOUT) -> None:
        """Commit for a group without members, with no metadata. Raises `ConfigurationError` while it has any."""
        ...

    def group_lag(self, group: str, topics: Sequence[str] = (), timeout: float = REQUEST_TIMEOUT) -> list[PartitionLag]:
        """For every partition that the group has committed, and every one of `topics`."""
        ...

    def group_lags(
        self, groups: Mapping[str, Sequence[str]], timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, list[PartitionLag]]:
        """`group_lag` of many groups, each with its topics, in a handful of requests for all of them."""
        ...

    def end_offsets(
        self,
        partitions: Sequence[TopicPartition],
        isolation: Isolation = "read_committed",
        timeout: float = REQUEST_TIMEOUT,
    ) -> dict[TopicPartition, int]: ...

    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int, timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, int]:
        """The first offset of each with a timestamp from `milliseconds` since 1970 on, or its end; `BEGINNING` and
        `END` are moments, too."""
        ...

    def close(self) -> None: ...


class Kafka(Protocol):
    """A cluster, and the clients one can have for it."""

    def consumer(
        self,
        group: str,
        *,
        instance: str | None = None,
        isolation: Isolation = "read_committed",
        co_partitioned: bool = False,
        on_error: Callable[[KafkaFault], None] | None = None,
    ) -> Consumer:
        """A member of `group`.

        - `instance`: a stable name in the group (`group.instance.id`): it may restart within the session timeout and
          keep its partitions, and a second holder fences the first.
        - `co_partitioned`: partition n of every topic goes to the same member, as stores over several topics need.
          All members of a group must agree on this.
        """
        ...

    def producer(self, on_delivery: Callable[[KafkaFault | None, Message], None] | None = None) -> Producer: ...
    def transactional_producer(self, transactional_id: str) -> TransactionalProducer: ...
    def admin(self) -> Admin: ...

    def read_to_end(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        isolation: Isolation = "read_committed",
        start: Offsets | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Iterator[list[Message]]:
        """Batches of all records up to the end as it is now, each partition in order; for restores and tools.

        `start`: first offsets to read; default: the beginning. Raises `Unavailable` when `timeout` seconds pass without
        any record, `TopicMissing` if there is no such topic.
        """
        ...
