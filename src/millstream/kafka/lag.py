"""How far a group is behind, in records: from offsets, and by reading where few are left."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import TopicMissing
from millstream.kafka.port import Admin, Committed, Message, Offsets, PartitionLag, TopicPartition

SMALL_LAG = 100
"""Up to here, lag is counted by reading: a transaction's marker takes an offset but is no record."""

Read = Callable[[Offsets, float], Iterator[list[Message]]]
"""Everything committed from these offsets to the end, within so many seconds."""


def lag_of(admin: Admin, read: Read, group: str, topics: Sequence[str], timeout: float) -> list[PartitionLag]:
    """What `Admin.group_lag` answers."""
    committed = admin.group_offsets(group, timeout)
    known = admin.topics(timeout)
    for topic in topics:
        if topic not in known:
            raise TopicMissing(f"Topic {topic!r} does not exist.")
        for partition in range(known[topic].partitions):
            committed.setdefault((topic, partition), Committed(None))
    partitions = sorted(key for key in committed if key[0] in known)
    ends = admin.end_offsets(partitions, timeout=timeout)
    lags = {key: max(0, ends[key] - (committed[key].offset or 0)) for key in partitions}
    small = {key: committed[key].offset or 0 for key, lag in lags.items() if 0 < lag <= SMALL_LAG}
    lags |= _count(read, small, timeout)
    return [PartitionLag(*key, committed[key].offset, ends[key], lags[key]) for key in partitions]


def _count(read: Read, starts: Offsets, timeout: float) -> dict[TopicPartition, int]:
    counts = dict.fromkeys(starts, 0)
    for batch in read(starts, timeout):
        for message in batch:
            counts[message.topic(), message.partition()] += 1
    return counts
