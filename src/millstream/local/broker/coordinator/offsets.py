"""The committed offsets of the groups, and those that wait for their transaction."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from millstream.local.broker.coordinator.journal import Entry, Journal

TopicPartition = tuple[str, int]


class Committed(NamedTuple):
    offset: int
    leader_epoch: int
    metadata: str
    at: int
    """When it was committed, in milliseconds since 1970."""


_OVERTAKEN = Committed(-1, -1, "", -1)
_Pending = dict[TopicPartition, Committed | None]
"""What one transaction is about to commit for one group; None once somebody else committed later than it."""


class Offsets:
    """Offsets by group and partition. Every change is in the journal before it is seen."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._committed: dict[str, dict[TopicPartition, Committed]] = {}
        self._pending: dict[int, dict[str, _Pending]] = {}

    def groups(self) -> set[str]:
        """Every group that has offsets, also if none of them is in effect yet."""
        return self._committed.keys() | {group for groups in self._pending.values() for group in groups}

    def topics(self) -> set[str]:
        """Every topic that a group has offsets of."""
        return {topic for group in self.groups() for topic, _ in self._known(group)}

    def of(self, group: str) -> Mapping[TopicPartition, Committed]:
        return self._committed.get(group, {})

    def is_pending(self, group: str, partition: TopicPartition) -> bool:
        """Whether an open transaction is about to commit an offset for this partition."""
        return any(partition in groups.get(group, ()) for groups in self._pending.values())

    def has_any(self, group: str) -> bool:
        """Whether the group has offsets, also if none of them is in effect yet."""
        return group in self._committed or any(group in groups for groups in self._pending.values())

    def commit(self, group: str, offsets: Mapping[TopicPartition, Committed]) -> None:
        if offsets:
            self._record("offsets", group, offsets)

    def commit_in_transaction(self, producer_id: int, group: str, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Keep `offsets` until `end_transaction` says what becomes of them."""
        if offsets:
            self._record("pending", group, offsets, producer_id)

    def end_transaction(self, producer_id: int, *, commit: bool) -> None:
        if producer_id in self._pending:
            self._record_plain(["pending_end", producer_id, commit])

    def delete(self, group: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget the offsets of `partitions`, also those that wait for their transaction."""
        known = self._known(group)
        gone = [list(partition) for partition in partitions if partition in known]
        if gone:
            self._record_plain(["offsets_deleted", group, gone])

    def delete_group(self, group: str) -> None:
        self.delete(group, self._known(group))

    def forget_topic(self, topic: str) -> None:
        """A deleted topic's offsets mean nothing to the next topic of that name."""
        for group in self.groups():
            self.delete(group, [partition for partition in self._known(group) if partition[0] == topic])

    def _known(self, group: str) -> set[TopicPartition]:
        pending = (groups.get(group, {}) for groups in self._pending.values())
        return set(self.of(group)).union(*pending)

    def apply(self, entry: Entry) -> bool:
        """Take one journal entry into the state; False if it is not about offsets."""
        match entry:
            case ["offsets", group, offsets]:
                committed = dict(_read(offsets))
                self._committed.setdefault(group, {}).update(committed)
                for pending in self._pending_for(group):
                    pending.update(dict.fromkeys(pending.keys() & committed.keys()))
            case ["pending", group, offsets, producer_id]:
                groups = self._pending.setdefault(producer_id, {})
                groups.setdefault(group, {}).update(_read(offsets))
            case ["pending_end", producer_id, commit]:
                for group, offsets in self._pending.pop(producer_id, {}).items():
                    if commit and (newest := {place: given for place, given in offsets.items() if given is not None}):
                        self._committed.setdefault(group, {}).update(newest)
            case ["offsets_deleted", group, partitions]:
                committed = self._committed.get(group, {})
                for topic, index in partitions:
                    committed.pop((topic, index), None)
                    for pending in self._pending_for(group):
                        pending.pop((topic, index), None)
                if not committed:
                    self._committed.pop(group, None)
            case _:
                return False
        return True

    def snapshot(self) -> Iterator[Entry]:
        # In the order in which they were committed, as far as it matters: overtaken, committed, still to come.
        yield from self._snapshot_pending(overtaken=True)
        for group, offsets in self._committed.items():
            yield ["offsets", group, _written(offsets)]
        yield from self._snapshot_pending(overtaken=False)

    def _snapshot_pending(self, *, overtaken: bool) -> Iterator[Entry]:
        for producer_id, groups in self._pending.items():
            for group, pending in groups.items():
                offsets = {
                    place: given or _OVERTAKEN for place, given in pending.items() if (given is None) is overtaken
                }
                yield ["pending", group, _written(offsets), producer_id]

    def _pending_for(self, group: str) -> list[_Pending]:
        return [groups[group] for groups in self._pending.values() if group in groups]

    def _record(self, kind: str, group: str, offsets: Mapping[TopicPartition, Committed], *more: int) -> None:
        self._record_plain([kind, group, _written(offsets), *more])

    def _record_plain(self, entry: Entry) -> None:
        self._journal.add(entry)
        self.apply(entry)


def _written(offsets: Mapping[TopicPartition, Committed]) -> list[list[object]]:
    return [[*partition, *committed] for partition, committed in offsets.items()]


def _read(offsets: list[list[object]]) -> Iterator[tuple[TopicPartition, Committed]]:
    for topic, index, *committed in offsets:
        yield (topic, index), Committed(*committed)  # type: ignore[misc,arg-type] # as `_written` wrote it
