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


class Offsets:
    """Offsets by group and partition. Every change is in the journal before it is seen."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._committed: dict[str, dict[TopicPartition, Committed]] = {}
        self._pending: dict[int, dict[str, dict[TopicPartition, Committed]]] = {}

    def groups(self) -> Iterable[str]:
        return self._committed.keys()

    def of(self, group: str) -> Mapping[TopicPartition, Committed]:
        return self._committed.get(group, {})

    def is_pending(self, group: str, partition: TopicPartition) -> bool:
        """Whether an open transaction is about to commit an offset for this partition."""
        return any(partition in groups.get(group, ()) for groups in self._pending.values())

    def has_pending(self, group: str) -> bool:
        return any(group in groups for groups in self._pending.values())

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
        gone = [list(partition) for partition in partitions if partition in self.of(group)]
        if gone:
            self._record_plain(["offsets_deleted", group, gone])

    def forget_topic(self, topic: str) -> None:
        """A deleted topic's offsets mean nothing to the next topic of that name."""
        for group, offsets in list(self._committed.items()):
            self.delete(group, [partition for partition in offsets if partition[0] == topic])

    def apply(self, entry: Entry) -> bool:
        """Take one journal entry into the state; False if it is not about offsets."""
        match entry:
            case ["offsets", group, offsets]:
                self._committed.setdefault(group, {}).update(_read(offsets))
            case ["pending", group, offsets, producer_id]:
                groups = self._pending.setdefault(producer_id, {})
                groups.setdefault(group, {}).update(_read(offsets))
            case ["pending_end", producer_id, commit]:
                for group, offsets in self._pending.pop(producer_id, {}).items():
                    if commit:
                        self._committed.setdefault(group, {}).update(offsets)
            case ["offsets_deleted", group, partitions]:
                offsets = self._committed.get(group, {})
                for topic, index in partitions:
                    offsets.pop((topic, index), None)
                if not offsets:
                    self._committed.pop(group, None)
            case _:
                return False
        return True

    def snapshot(self) -> Iterator[Entry]:
        for group, offsets in self._committed.items():
            yield ["offsets", group, _written(offsets)]
        for producer_id, groups in self._pending.items():
            for group, offsets in groups.items():
                yield ["pending", group, _written(offsets), producer_id]

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
