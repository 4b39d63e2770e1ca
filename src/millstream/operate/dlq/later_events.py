"""Later events of a dead letter's key that its group has handled meanwhile: a redrive would reverse their order."""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from millstream.contracts.cloudevents import headers_in
from millstream.declare import Value, full_name
from millstream.declare.contract import former_names
from millstream.declare.deleted import deletion_of
from millstream.kafka.port import Message, TopicPartition
from millstream.kafka.unreadable import headers_of
from millstream.operate.dlq.context import DlqContext, Origins
from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterId, DeadLetterRef, OrderedKey, ref_of
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.reading import read_dead_letters
from millstream.timeouts import DEAD_LETTERS_TIMEOUT

SHOWN = 5
"""Offsets that a refusal names."""


class Superseding(NamedTuple):
    """The later events that supersede a dead letter: how many, and the offsets of the first of them."""

    total: int
    first: tuple[int, ...]


class LaterEvents:
    """The later events of tracked keys. Asked again, it reads only what was appended since.

    Memory holds their offsets, eight bytes each.
    """

    def __init__(self, context: DlqContext) -> None:
        self._context = context
        self._unhandled = unhandled_classes(context.origins)
        self._since: dict[OrderedKey, int] = {}
        self._unread: set[OrderedKey] = set()
        self._next: dict[TopicPartition, int] = {}
        self._offsets = defaultdict[OrderedKey, "array[int]"](lambda: array("q"))
        self._dead_lettered: dict[OrderedKey, dict[int, set[DeadLetterId]]] = {}
        self._dead_lettered_next: dict[TopicPartition, int] = {}

    def track(self, refs: Iterable[DeadLetterRef]) -> None:
        """Add the keys of dead letters that will be asked for, so that one reading finds the later events of all."""
        for ref in refs:
            key = ref.ordered_key
            # To a group that the system does not have nothing is redriven.
            if key is None or ref.parked or key[0] not in self._unhandled:
                continue
            if key not in self._since or ref.event < self._since[key]:
                self._since[key] = ref.event
                self._unread.add(key)

    def retain(self, keys: Set[OrderedKey | None]) -> None:
        """Forget all other keys."""
        for key in self._since.keys() - keys:
            self._since.pop(key)
            self._offsets.pop(key, None)
            self._dead_lettered.pop(key, None)
        self._unread &= self._since.keys()
        partitions = {key[1:3] for key in self._since}
        self._next = {partition: offset for partition, offset in self._next.items() if partition in partitions}

    def superseding(self, dead_letters: Sequence[DeadLetter]) -> dict[DeadLetterId, Superseding]:
        """Return the events that supersede each of these dead letters, without those that no event supersedes.

        A later event supersedes a dead letter when the group has handled it: not when it was dead-lettered itself and
        not redriven since, nor when the group has no handler for its class. A parked dead letter is never superseded,
        for its key waits, nor is an event without a key, which has no order.
        """
        refs = [ref_of(dead_letter) for dead_letter in dead_letters]
        self.track(refs)
        self._read_on()
        later: dict[DeadLetterRef, Sequence[int]] = {}
        for ref in refs:
            offsets = () if ref.ordered_key is None or ref.parked else self._offsets.get(ref.ordered_key, ())
            if found := offsets[bisect_right(offsets, ref.event) :]:
                later[ref] = found
        # Most keys have no later event; only for the others the dead letters are read once more.
        self._read_dead_lettered({ref.ordered_key: ref.id.topic for ref in later if ref.ordered_key is not None})
        superseding: dict[DeadLetterId, Superseding] = {}
        for ref, offsets in later.items():
            if handled := [offset for offset in offsets if not self._is_dead_lettered(ref, offset)]:
                superseding[ref.id] = Superseding(len(handled), tuple(handled[:SHOWN]))
        return superseding

    def _read_on(self) -> None:
        starts = dict(self._next)
        for key in self._unread:
            partition, after = key[1:3], self._since[key] + 1
            if partition[1] < self._context.partitions.get(partition[0], 0):
                starts[partition] = min(after, starts.get(partition, after))
        ends = self._context.admin.end_offsets(list(starts)) if starts else {}
        found = defaultdict[OrderedKey, list[int]](list)
        for partition, end in ends.items():
            if starts[partition] < end:
                for message in self._records(partition, starts[partition], end):
                    for key in self._keys_of_new(message):
                        found[key].append(message.offset())
        # Changed only after everything was read, so that a reading that fails can be repeated.
        for key in self._unread:
            self._offsets.pop(key, None)
        for key, offsets in found.items():
            self._offsets[key].extend(offsets)
        self._unread.clear()
        self._next |= ends

    def _records(self, partition: TopicPartition, start: int, end: int) -> Iterator[Message]:
        topic, number = partition
        batches = self._context.kafka.read_to_end(
            topic, [number], start={partition: start}, timeout=DEAD_LETTERS_TIMEOUT
        )
        return (message for batch in batches for message in batch if message.offset() < end)

    def _keys_of_new(self, message: Message) -> Iterator[OrderedKey]:
        """Yield the tracked keys that this is a later event of, and not noted yet."""
        partition, offset, key = (message.topic(), message.partition()), message.offset(), message.key()
        if key is None:
            return
        for group, unhandled in self._unhandled.items():
            ordered_key = (group, *partition, key)
            new = ordered_key in self._unread or offset >= self._next.get(partition, 0)
            if new and offset > self._since.get(ordered_key, offset) and _type(message) not in unhandled:
                yield ordered_key

    def _read_dead_lettered(self, later: Mapping[OrderedKey, str]) -> None:
        """Note the dead letters of these keys, and of those that were asked for before."""
        for topic in set(later.values()):
            new = {key for key, of in later.items() if of == topic} - self._dead_lettered.keys()
            partitions = [(topic, number) for number in range(self._context.partitions[topic])]
            ends = self._context.admin.end_offsets(partitions)
            starts = {partition: 0 if new else self._dead_lettered_next.get(partition, 0) for partition in partitions}
            if all(starts[partition] >= end for partition, end in ends.items()):
                continue
            keys = self._dead_lettered.keys() | new
            refs = (ref_of(found) for found, _ in read_dead_letters(self._context, [topic], Filter(), start=starts))
            found = [(ref.ordered_key, ref) for ref in refs if ref.ordered_key in keys]
            self._dead_lettered |= {key: {} for key in new}
            for key, ref in found:
                if key is not None:
                    self._dead_lettered[key].setdefault(ref.event, set()).add(ref.id)
            self._dead_lettered_next |= ends

    def _is_dead_lettered(self, ref: DeadLetterRef, offset: int) -> bool:
        """Return whether a later event of the key was dead-lettered, and never handled."""
        if ref.ordered_key is None:
            return False
        entries = (self._context.audit[id] for id in self._dead_lettered.get(ref.ordered_key, {}).get(offset, ()))
        return any(entry is None or entry.action == "discard" for entry in entries)


def unhandled_classes(origins: Origins) -> Mapping[str, frozenset[bytes]]:
    """Return, by group, the names of the classes on its topics, and of their deletions, that no handler of it takes."""
    return {
        service.group(kind): _names(
            named for topic in service.consumed(kind) for of in topic.contracts for named in (of, deletion_of(of))
        )
        - _names(of for handler in service.of_kind(kind) for of in handler.consumes)
        for service in origins.services.values()
        for kind in service.kinds()
    }


def _names(classes: Iterable[type[Value]]) -> frozenset[bytes]:
    return frozenset(name.encode() for of in classes for name in (full_name(of), *former_names(of)))


def _type(message: Message) -> bytes | None:
    """Return the name of its class from its headers, or from its value where that is a whole CloudEvent."""
    named = dict(headers_of(message)).get("ce_type")
    return named if named is not None else dict(headers_in(message.value())).get("ce_type")
