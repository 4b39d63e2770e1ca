"""Which later events of the same key the group has handled meanwhile: the order that a redrive would turn round."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from millstream.contracts.cloudevents import headers_in
from millstream.declare import Value, full_name
from millstream.declare.contract import former_names
from millstream.kafka.port import Message
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.reading import SILENCE, letters
from millstream.operate.dlq.system import Origins

SHOWN = 5
"""How many offsets are named."""

_Place = tuple[str, int, bytes]


class Overtakers(NamedTuple):
    """Events that overtook a letter: how many, and the offsets of the first of them."""

    number: int
    first: tuple[int, ...]


def overtakers(office: Office, asked: Sequence[DeadLetter], *, topic: str) -> dict[LetterId, Overtakers]:
    """What overtook each of these letters of one dead letter topic; those that nothing overtook are left out.

    Events that were set aside themselves, and not handed in again, have overtaken nothing, nor have those of a class
    that the group has no handler for. Parked letters are never overtaken, for their keys wait, nor are events without a
    key, which have no order.
    """
    ordered = [letter for letter in asked if letter.key is not None and not letter.parked]
    later = defaultdict[_Place, list[DeadLetter]](list)
    for letter in ordered:
        later[_place(letter)].append(letter)
    # Most keys have no later event; only for the others the dead letters are read once more.
    passing = passed_over(office.origins)
    followed = {
        place
        for place, message in _followers(office, ordered)
        if any(_follows(message, letter, passing) for letter in later.get(place, ()))
    }
    if not followed:
        return {}
    aside = _set_aside(office, followed, topic)
    counts = dict.fromkeys((letter.id for letter in ordered), 0)
    first = defaultdict[LetterId, list[int]](list)
    for place, message in _followers(office, ordered):
        offset = message.offset()
        for letter in later.get(place, ()):
            if _follows(message, letter, passing) and (letter.group, *letter.origin, offset) not in aside:
                counts[letter.id] += 1
                if len(first[letter.id]) < SHOWN:
                    first[letter.id].append(offset)
    return {id: Overtakers(count, tuple(first[id])) for id, count in counts.items() if count}


def passed_over(origins: Origins) -> Mapping[str, frozenset[bytes]]:
    """By group, the names of the classes on its topics that none of its handlers takes."""
    return {
        service.group(kind): _names(of for topic in service.consumed(kind) for of in topic.contracts)
        - _names(of for handler in service.of_kind(kind) for of in handler.consumes)
        for service in origins.services.values()
        for kind in service.kinds()
    }


def _names(classes: Iterable[type[Value]]) -> frozenset[bytes]:
    return frozenset(name.encode() for of in classes for name in (full_name(of), *former_names(of)))


def _follows(message: Message, letter: DeadLetter, passing: Mapping[str, frozenset[bytes]]) -> bool:
    if message.offset() <= letter.at[2]:
        return False
    return letter.group is None or _type(message) not in passing.get(letter.group, ())


def _type(message: Message) -> bytes | None:
    """The name of its class, where its headers say it, or its value where that is a whole CloudEvent."""
    named = dict(message.headers() or ()).get("ce_type")
    return named if named is not None else dict(headers_in(message.value())).get("ce_type")


def _place(letter: DeadLetter) -> _Place:
    return *letter.origin, letter.key or b""


def _set_aside(office: Office, asked: set[_Place], topic: str) -> set[tuple[str | None, str, int, int]]:
    """Group and position of the events of these keys that were never handled."""
    unhandled = Filter(states=("open", "parked", "discarded"))
    return {
        (letter.group, *letter.at)
        for letter, _ in letters(office, [topic], unhandled)
        if letter.key is not None and _place(letter) in asked
    }


def _followers(office: Office, asked: Sequence[DeadLetter]) -> Iterator[tuple[_Place, Message]]:
    starts: dict[tuple[str, int], int] = {}
    for letter in asked:
        starts[letter.origin] = min(letter.at[2] + 1, starts.get(letter.origin, letter.at[2] + 1))
    for (topic, partition), start in starts.items():
        if partition >= office.partitions.get(topic, 0):
            continue
        reading = office.kafka.read_to_end(topic, [partition], start={(topic, partition): start}, timeout=SILENCE)
        for batch in reading:
            for message in batch:
                if (key := message.key()) is not None:
                    yield (topic, partition, key), message
