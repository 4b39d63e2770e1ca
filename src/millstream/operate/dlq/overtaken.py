"""Which later events of the same key the group has handled meanwhile: the order that a redrive would turn round."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.reading import SILENCE, letters

SHOWN = 5
"""How many offsets are named."""

_Place = tuple[str, int, bytes]


class Overtakers(NamedTuple):
    """Events that overtook a letter: how many, and the offsets of the first of them."""

    number: int
    first: tuple[int, ...]


def overtakers(office: Office, asked: Sequence[DeadLetter], *, topic: str) -> dict[LetterId, Overtakers]:
    """What overtook each of these letters of one dead letter topic; those that nothing overtook are left out.

    Events that were set aside themselves, and not handed in again, have overtaken nothing. Parked letters are never
    overtaken, for their keys wait, nor are events without a key, which have no order.
    """
    ordered = [letter for letter in asked if letter.key is not None and not letter.parked]
    later = defaultdict[_Place, list[DeadLetter]](list)
    for letter in ordered:
        later[_place(letter)].append(letter)
    # Most keys have no later event; only for the others the dead letters are read once more.
    followed = {place for place, offset in _followers(office, ordered) if _is_followed(later.get(place, ()), offset)}
    if not followed:
        return {}
    aside = _set_aside(office, followed, topic)
    counts = dict.fromkeys((letter.id for letter in ordered), 0)
    first = defaultdict[LetterId, list[int]](list)
    for place, offset in _followers(office, ordered):
        for letter in later.get(place, ()):
            if offset > letter.at[2] and (letter.group, *letter.origin, offset) not in aside:
                counts[letter.id] += 1
                if len(first[letter.id]) < SHOWN:
                    first[letter.id].append(offset)
    return {id: Overtakers(count, tuple(first[id])) for id, count in counts.items() if count}


def _is_followed(letters: Sequence[DeadLetter], offset: int) -> bool:
    return any(offset > letter.at[2] for letter in letters)


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


def _followers(office: Office, asked: Sequence[DeadLetter]) -> Iterator[tuple[_Place, int]]:
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
                    yield (topic, partition, key), message.offset()
