"""The order that dead letters keep: in each lane that of its events, however late a letter was written.

An event that fails again becomes a new letter, which then lies behind those of later events.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from millstream.operate.dlq.letter import DeadLetter, LetterId

Lane: TypeAlias = tuple[str | None, str, int, bytes]
"""Group, topic, partition and key, whose events are handled one after the other."""
S = TypeVar("S", bound="Spot")


@dataclass(frozen=True, slots=True)
class Spot:
    """As much of a letter as puts it in order: so little that a million of them can be kept.

    - `lane`: `None` without a key, which has no order.
    - `event`: the offset of the event in the partition that it came from.
    - `parked`: its key waits with it, so that nothing overtakes it.
    """

    id: LetterId
    lane: Lane | None
    event: int
    parked: bool = False


def spot_of(letter: DeadLetter) -> Spot:
    """Return the spot of a letter."""
    return Spot(letter.id, lane_of(letter), letter.at[2], letter.parked)


def lane_of(letter: DeadLetter) -> Lane | None:
    """The lane of a letter, if it has a key."""
    return None if letter.key is None else (letter.group, *letter.origin, letter.key)


def in_order(spots: Sequence[S]) -> list[S]:
    """The same spots, each lane in the order of its events. Between lanes nothing moves.

    >>> first, second = (Spot(LetterId("t.dlq", 0, 9 - n), ("g", "t", 0, b"k"), event=n) for n in range(2))
    >>> [spot.event for spot in in_order([second, first])]
    [0, 1]
    """
    lanes = defaultdict[Lane, list[S]](list)
    for spot in spots:
        if spot.lane is not None:
            lanes[spot.lane].append(spot)
    for lane in lanes.values():
        lane.sort(key=lambda spot: (spot.event, spot.id), reverse=True)
    return [spot if spot.lane is None else lanes[spot.lane].pop() for spot in spots]
