"""The lag of groups, in records: from offsets, and by reading where few are left."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from millstream.errors import TopicMissing
from millstream.kafka.port import Admin, Committed, Message, Offsets, PartitionLag, TopicPartition

SMALL_LAG = 100
"""Up to here, lag is counted by reading: a transaction's marker takes an offset but is no record."""

Read = Callable[[Offsets, Offsets, float], Iterator[list[Message]]]
"""Everything committed from these offsets up to those ends, within so many seconds."""


def lags_of(
    admin: Admin,
    read: Read,
    committed: Mapping[str, Mapping[TopicPartition, Committed]],
    groups: Mapping[str, Sequence[str]],
    timeout: float,
) -> dict[str, list[PartitionLag]]:
    """Answer `Admin.group_lags`: one question for the ends of all groups, and one reader for what is left.

    - `committed`: of each group.
    """
    known = admin.topics(timeout)
    wanted: dict[str, dict[TopicPartition, int | None]] = {}
    for group, topics in groups.items():
        if missing := [topic for topic in topics if topic not in known]:
            raise TopicMissing(f"Topic {missing[0]!r} does not exist.")
        declared = {(topic, number): None for topic in topics for number in range(known[topic].partitions)}
        stored = {at: found.offset for at, found in committed[group].items() if at[0] in known}
        wanted[group] = declared | stored
    partitions = sorted({at for offsets in wanted.values() for at in offsets})
    ends = admin.end_offsets(partitions, timeout=timeout)
    behind = {
        (group, at): offset or 0
        for group, offsets in wanted.items()
        for at, offset in offsets.items()
        if 0 < ends[at] - (offset or 0) <= SMALL_LAG
    }
    counts = _count(read, behind, ends, timeout)

    def lag(group: str, at: TopicPartition, offset: int | None) -> PartitionLag:
        by_offsets = max(0, ends[at] - (offset or 0))
        return PartitionLag(*at, offset, ends[at], counts.get((group, at), by_offsets))

    return {group: [lag(group, at, offsets[at]) for at in sorted(offsets)] for group, offsets in wanted.items()}


def _count(
    read: Read, behind: Mapping[tuple[str, TopicPartition], int], ends: Offsets, timeout: float
) -> dict[tuple[str, TopicPartition], int]:
    """Records from each group's offset on. A partition is read once for all groups."""
    asking: dict[TopicPartition, list[tuple[str, int]]] = {}
    for (group, at), offset in behind.items():
        asking.setdefault(at, []).append((group, offset))
    counts = dict.fromkeys(behind, 0)
    starts = {at: min(offset for _, offset in groups) for at, groups in asking.items()}
    for batch in read(starts, {at: ends[at] for at in starts}, timeout):
        for message in batch:
            at = (message.topic(), message.partition())
            for group, offset in asking[at]:
                counts[group, at] += offset <= message.offset() < ends[at]
    return counts
