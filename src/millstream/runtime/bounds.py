"""The bound on what is parked of one partition: with as much, its topics wait."""

import time
from collections.abc import Iterable, Mapping, Sequence

from millstream.declare import Kind
from millstream.kafka.port import Consumer
from millstream.runtime.place import Place
from millstream.runtime.tally import Tally
from millstream.telemetry import get_logger

log = get_logger(__name__)


_TELL_EVERY = 1.0


class Bounds:
    """Pauses partitions of which too much is parked, and resumes them. Redrives always come.

    - `kind`: of the handlers.
    - `topics`: what waits.
    - `most_parked`: events of one partition.
    """

    def __init__(self, kind: Kind, consumer: Consumer, topics: Sequence[str], most_parked: int) -> None:
        self._kind = kind
        self._consumer = consumer
        self._topics = topics
        self._most = most_parked
        self._full: set[int] = set()
        self._told = False
        self._tell_at = 0.0

    def hold_back(self, places: Mapping[int, Place]) -> None:
        """Look at what is parked now."""
        full = {number for number, place in places.items() if place.parked and len(place.lanes) >= self._most}
        if full == self._full:
            return
        for number in full - self._full:
            log.warning(
                "too much is parked: the partition waits until handlers succeed again, or until its keys are redriven "
                "or discarded (millstream dlq)",
                topics=list(self._topics),
                partition=number,
                events=len(places[number].lanes),
                keys=places[number].lanes.keys,
                most=self._most,
            )
        if pause := self._partitions(full - self._full):
            self._consumer.pause(pause)
        if resume := self._partitions(self._full - full):
            self._consumer.resume(resume)
        self._full = full

    def forget(self, numbers: Iterable[int]) -> None:
        """These partitions are not ours any more."""
        self._full.difference_update(numbers)

    def tell(self, tally: Tally, places: Mapping[int, Place]) -> None:
        """Tell what is parked, if anything is or was."""
        now = time.monotonic()
        if now < self._tell_at:
            return
        self._tell_at = now + _TELL_EVERY
        parked = [place.lanes for place in places.values() if place.parked]
        if not parked and not self._told:
            return
        self._told = bool(parked)
        held = sum(lanes.held for lanes in parked)
        keys = sum(lanes.keys for lanes in parked)
        events = sum(map(len, parked))
        tally.parked(self._kind.value, events, retrying=keys - held, held=held, paused=len(self._full))

    def _partitions(self, numbers: Iterable[int]) -> list[tuple[str, int]]:
        mine = self._consumer.assignment()
        return [at for at in mine if at[0] in self._topics and at[1] in set(numbers)]
