"""Ownership of keys: those that the stores of one partition may hold."""

from millstream.errors import Rejected
from millstream.kafka.partitioner import partition_of


class PresentKey:
    """The key of the event that a partition's handlers are called with. Its state is here, whatever partitioner the
    event's producer has."""

    __slots__ = ("key",)

    def __init__(self) -> None:
        self.key = ""


class Ownership:
    """The partition that a store checks the keys against that it is given.

    - `store`: how the store is called.
    - `present`: the key of the present event.
    - `partition`, `partitions`: which one of how many the store belongs to.
    """

    __slots__ = ("_partition", "_partitions", "_store", "present")

    def __init__(self, store: str, present: PresentKey, partition: int, partitions: int) -> None:
        self.present = present
        self._store = store
        self._partition = partition
        self._partitions = partitions

    def check(self, key: str) -> None:
        """Raise `Rejected` (`foreign_key`) for a key of another partition."""
        if (partition := partition_of(key, self._partitions)) != self._partition:
            raise Rejected(
                "foreign_key",
                f"{self._store}: {key!r} belongs to partition {partition}, and the event that is handled to "
                f"{self._partition}: what is put here is not found there. Return an event or command with that key, "
                "and let the handler of it write",
            )
