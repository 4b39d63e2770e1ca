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
        told = {place: found.offset for place, found in committed[group].items() if place[0] in known}
        wanted[group] = declared | told
    places = sorted({place for offsets in wanted.values() for place in offsets})
    ends = admin.end_offsets(places, timeout=timeout)
    behind = {
        (group, place): offset or 0
        for group, offsets in wanted.items()
        for place, offset in offsets.items()
        if 0 < ends[place] - (offset or 0) <= SMALL_LAG
    }
    counts = _count(read, behind, ends, timeout)

    def lag(group: str, place: TopicPartition, offset: int | None) -> PartitionLag:
        by_offsets = max(0, ends[place] - (offset or 0))
        return PartitionLag(*place, offset, ends[place], counts.get((group, place), by_offsets))

    return {
        group: [lag(group, place, offsets[place]) for place in sorted(offsets)] for group, offsets in wanted.items()
    }


def _count(
    read: Read, behind: Mapping[tuple[str, TopicPartition], int], ends: Offsets, timeout: float
) -> dict[tuple[str, TopicPartition], int]:
    """Records from each group's offset on. A partition is read once, whoever asks."""
    asking: dict[TopicPartition, list[tuple[str, int]]] = {}
    for (group, place), offset in behind.items():
        asking.setdefault(place, []).append((group, offset))
    counts = dict.fromkeys(behind, 0)
    starts = {place: min(offset for _, offset in groups) for place, groups in asking.items()}
    for batch in read(starts, {place: ends[place] for place in starts}, timeout):
        for message in batch:
            place = (message.topic(), message.partition())
            for group, offset in asking[place]:
                counts[group, place] += offset <= message.offset() < ends[place]
    return counts
