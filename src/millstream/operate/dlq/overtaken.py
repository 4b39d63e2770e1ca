"""Later events of the same key that the group has handled meanwhile, whose order a redrive would turn round."""

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
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.lanes import Lane, Spot, spot_of
from millstream.operate.dlq.letter import DeadLetter, LetterId
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.reading import SILENCE, letters
from millstream.operate.dlq.system import Origins

SHOWN = 5
"""Offsets that are named at most."""


class Overtakers(NamedTuple):
    """Events that overtook a letter: how many, and the offsets of the first of them."""

    number: int
    first: tuple[int, ...]


class Followers:
    """The later events of keys. Asked again, it reads only what has come since.

    Memory holds their offsets, eight bytes each, for the keys that it minds.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._passing = skipped(office.origins)
        self._since: dict[Lane, int] = {}
        self._unread: set[Lane] = set()
        self._next: dict[TopicPartition, int] = {}
        self._offsets = defaultdict[Lane, "array[int]"](lambda: array("q"))
        self._aside: dict[Lane, dict[int, set[LetterId]]] = {}
        self._aside_next: dict[TopicPartition, int] = {}

    def mind(self, spots: Iterable[Spot]) -> None:
        """These will be asked for: what follows them is read in one go with what follows others."""
        for spot in spots:
            lane = spot.lane
            # To a group that the system does not have nothing is handed in.
            if lane is None or spot.parked or lane[0] not in self._passing:
                continue
            if lane not in self._since or spot.event < self._since[lane]:
                self._since[lane] = spot.event
                self._unread.add(lane)

    def keep(self, lanes: Set[Lane | None]) -> None:
        """Forgets all other keys."""
        for lane in self._since.keys() - lanes:
            self._since.pop(lane)
            self._offsets.pop(lane, None)
            self._aside.pop(lane, None)
        self._unread &= self._since.keys()
        places = {lane[1:3] for lane in self._since}
        self._next = {place: offset for place, offset in self._next.items() if place in places}

    def overtaking(self, asked: Sequence[DeadLetter]) -> dict[LetterId, Overtakers]:
        """Return what has overtaken each of these letters; those that nothing overtook are left out.

        Events that were set aside themselves, and not handed in again, have overtaken nothing, nor have those of a
        class that the group has no handler for. Parked letters are never overtaken, for their keys wait, nor are events
        without a key, which have no order.
        """
        spots = [spot_of(letter) for letter in asked]
        self.mind(spots)
        self._read_on()
        later: dict[Spot, Sequence[int]] = {}
        for spot in spots:
            offsets = () if spot.lane is None or spot.parked else self._offsets.get(spot.lane, ())
            if found := offsets[bisect_right(offsets, spot.event) :]:
                later[spot] = found
        # Most keys have no later event; only for the others the dead letters are read once more.
        self._read_aside({spot.lane: spot.id.topic for spot in later if spot.lane is not None})
        overtakers: dict[LetterId, Overtakers] = {}
        for spot, offsets in later.items():
            if handled := [offset for offset in offsets if not self._is_aside(spot, offset)]:
                overtakers[spot.id] = Overtakers(len(handled), tuple(handled[:SHOWN]))
        return overtakers

    def _read_on(self) -> None:
        starts = dict(self._next)
        for lane in self._unread:
            place, after = lane[1:3], self._since[lane] + 1
            if place[1] < self._office.partitions.get(place[0], 0):
                starts[place] = min(after, starts.get(place, after))
        ends = self._office.admin.end_offsets(list(starts)) if starts else {}
        found = defaultdict[Lane, list[int]](list)
        for place, end in ends.items():
            if starts[place] < end:
                for message in self._records(place, starts[place], end):
                    for lane in self._followed_by(message):
                        found[lane].append(message.offset())
        # Only now, so that what fails on the way can be done again.
        for lane in self._unread:
            self._offsets.pop(lane, None)
        for lane, offsets in found.items():
            self._offsets[lane].extend(offsets)
        self._unread.clear()
        self._next |= ends

    def _records(self, place: TopicPartition, start: int, end: int) -> Iterator[Message]:
        reading = self._office.kafka.read_to_end(place[0], [place[1]], start={place: start}, timeout=SILENCE)
        return (message for batch in reading for message in batch if message.offset() < end)

    def _followed_by(self, message: Message) -> Iterator[Lane]:
        """The lanes that have a letter of an earlier event, and did not know of this one."""
        place, offset, key = (message.topic(), message.partition()), message.offset(), message.key()
        if key is None:
            return
        for group, passing in self._passing.items():
            lane = (group, *place, key)
            news = lane in self._unread or offset >= self._next.get(place, 0)
            if news and offset > self._since.get(lane, offset) and _type(message) not in passing:
                yield lane

    def _read_aside(self, followed: Mapping[Lane, str]) -> None:
        """Notes the letters of these keys, and of those that were asked for before."""
        for topic in set(followed.values()):
            new = {lane for lane, of in followed.items() if of == topic} - self._aside.keys()
            places = [(topic, partition) for partition in range(self._office.partitions[topic])]
            ends = self._office.admin.end_offsets(places)
            starts = {place: 0 if new else self._aside_next.get(place, 0) for place in places}
            if all(starts[place] >= end for place, end in ends.items()):
                continue
            asked = self._aside.keys() | new
            spots = (spot_of(letter) for letter, _ in letters(self._office, [topic], Filter(), start=starts))
            found = [(spot.lane, spot) for spot in spots if spot.lane in asked]
            self._aside |= {lane: {} for lane in new}
            for lane, spot in found:
                if lane is not None:
                    self._aside[lane].setdefault(spot.event, set()).add(spot.id)
            self._aside_next |= ends

    def _is_aside(self, spot: Spot, offset: int) -> bool:
        """Return whether a later event of the spot's key was dead-lettered, and never handled."""
        if spot.lane is None:
            return False
        entries = (self._office.audit[id] for id in self._aside.get(spot.lane, {}).get(offset, ()))
        return any(entry is None or entry.action == "discard" for entry in entries)


def skipped(origins: Origins) -> Mapping[str, frozenset[bytes]]:
    """By group, the names of the classes on its topics, and of their deletions, that none of its handlers takes."""
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
    """The name of its class, where its headers say it, or its value where that is a whole CloudEvent."""
    named = dict(headers_of(message)).get("ce_type")
    return named if named is not None else dict(headers_in(message.value())).get("ce_type")
