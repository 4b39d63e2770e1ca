"""Fetch, with its long poll: a reader that finds nothing waits until one of its partitions has grown."""

from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.fetch_sessions import Place, Reading
from millstream.local.broker.log.aborted import Aborted
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Timer
from millstream.local.broker.wire.fetch import FetchAnswer, FetchRequest, Parts, entry, idle

MAX_WAIT_MS = 5 * 60 * 1000
MAX_BYTES = 4 << 20
"""An answer has no more than this, whatever a reader takes: while it is understood, the next one is on its way."""


class Wanted(NamedTuple):
    """What a fetch is to be told of: every place of `reading`, or `only_new` in session `session_id`."""

    reading: Reading
    session_id: int
    only_new: bool


class Found(NamedTuple):
    """What a place has for its reader; `aborted` is None unless it reads committed records alone."""

    error: ErrorCode
    records: bytes = b""
    aborted: list[Aborted] | None = None
    at_end: bool = False


class PendingFetch:
    """One fetch from its arrival to its answer, written for `version`. `cancel()` it when the client is gone."""

    __slots__ = ("_broker", "_missing", "_reading", "_reply", "_request", "_timer", "_version", "_wanted")

    def __init__(
        self, broker: Broker, version: int, request: FetchRequest, wanted: Wanted, reply: Callable[[list[bytes]], None]
    ) -> None:
        self._broker = broker
        self._version = version
        self._request = request
        self._wanted = wanted
        self._reading = wanted.reading
        self._reply = reply
        self._timer: Timer | None = None
        self._missing = max(request.min_bytes, 1)

    def start(self) -> None:
        """Answer now if there is enough, an error, or no wish to wait; else wait for growth or the time."""
        if self._request.max_wait <= 0 or self._is_due():
            self._answer()
            return
        self._reading.waiting = self._grown
        self._timer = self._broker.timers.after(min(self._request.max_wait, MAX_WAIT_MS), self._finish)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._reading.waiting = None

    def _grown(self, size: int, partition: Partition) -> None:
        """Count what has come, and answer when there is enough.

        Data that a committed reader may not see yet does not count; what a marker sets free counts as enough.
        """
        if not size:
            self._broker.wake(self._finish)
        elif not self._request.committed or not partition.producers.open:
            self._missing -= size
            if self._missing <= 0:
                self._broker.wake(self._finish)

    def _finish(self) -> None:
        if self._timer is not None:
            self.cancel()
            self._reading.ask(())  # its topics may be gone
            self._answer()

    def _is_due(self) -> bool:
        committed = self._request.committed
        for place in self._reading.dirty:
            partition = place.partition
            if not isinstance(partition, Partition):
                return True
            offset = place.wanted[2]
            end = partition.stable_offset if committed else partition.log.end_offset
            if not partition.log.start_offset <= offset <= partition.log.end_offset:
                return True
            if offset == end:
                continue
            if offset < end:
                if offset < partition.log.compacted_to and not partition.log.size_from(offset):
                    continue  # nothing is left up to the end: to answer at once would keep the reader asking
                if self._missing > 1:
                    self._missing -= partition.log.size_from(offset)
                if self._missing <= 1:
                    return True
        return not self._reading.topics

    def _answer(self) -> None:
        reading = self._reading
        reading.write_for(self._version, self._request.committed)
        found = self._read()
        if self._wanted.only_new:
            topics = _by_topic(found)
        else:
            topics = {topic: places.values() for topic, places in reading.topics.items()}
        answer = FetchAnswer(self._version, len(topics), session_id=self._wanted.session_id)
        for topic, places in topics.items():
            answer.topic(topic, [place.idle or self._entry(place, found.get(place)) for place in places])
        self._reply(answer.finish())

    def _read(self) -> dict[Place, Found]:
        """What is new in the places that have changed: in the order of the request, or of the session, where those with
        records go to the end of the queue, so that all get their share of `max_bytes`."""
        found: dict[Place, Found] = {}
        left, first = min(self._request.max_bytes, MAX_BYTES), True
        dirty = self._reading.dirty
        for place in self._in_order():
            new = self._look(place, left, first=first)
            if new.records:
                left -= len(new.records)
                first = False
                del dirty[place]
                dirty[place] = None
            elif new.at_end:
                del dirty[place]
            if new.error is not ErrorCode.none:
                place.end = -1
            elif not new.records and place.knows_all():
                continue
            found[place] = new
            place.idle = ()
        return found

    def _in_order(self) -> Iterable[Place]:
        reading = self._reading
        if self._wanted.only_new or len(reading.dirty) < 2:
            return tuple(reading.dirty)
        asked: dict[Place, None] = {}
        changed = _by_topic(reading.dirty)
        for topic, partitions in self._request.topics:
            places = {place.sent: place for place in changed.get(topic, ())}
            asked.update((places[sent], None) for sent in partitions if sent in places)
        return asked

    def _look(self, place: Place, left: int, *, first: bool) -> Found:
        """Read from one place. What is larger than allowed is given only if it is the first of the answer."""
        partition, offset, committed = place.partition, place.wanted[2], self._request.committed
        if not isinstance(partition, Partition):
            return Found(partition)
        end = partition.stable_offset if committed else partition.log.end_offset
        if offset == end and offset >= partition.log.start_offset:
            return Found(ErrorCode.none, at_end=True)
        most = max(min(place.wanted[3], left), 0)
        try:
            records = partition.read(offset, most, committed=committed) if left > 0 or first else b""
        except Refused as refused:
            return Found(refused.code)
        if len(records) > most and not first:
            records = b""
        aborted = partition.aborted_between(offset) if committed and records else None
        return Found(ErrorCode.none, records, aborted)

    def _entry(self, place: Place, new: Found | None) -> Parts:
        index, partition, version = place.wanted[0], place.partition, self._version
        if not isinstance(partition, Partition):
            return entry(version, index, partition)
        if new is not None and new.error is not ErrorCode.none:
            return entry(version, index, new.error)
        log, stable = partition.log, partition.stable_offset
        place.end, place.start = end, start = log.end_offset, log.start_offset
        if new is not None and new.records:
            return entry(version, index, ErrorCode.none, end, stable, start, new.aborted, new.records)
        place.idle = idle(version, index, end, stable, start, committed=self._request.committed)
        return place.idle


def _by_topic(places: Iterable[Place]) -> dict[str | UUID, list[Place]]:
    topics: dict[str | UUID, list[Place]] = {}
    for place in places:
        topics.setdefault(place.topic, []).append(place)
    return topics
