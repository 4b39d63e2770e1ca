"""What readers ask for again and again, watched between their fetches; and fetch sessions (KIP-227).

A reader of many partitions finds nothing in most of them. So the broker keeps what it asked for, and each partition
says when there is something new: a fetch costs what has changed, not what is read.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import Refused
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Clock
from millstream.local.broker.topics import Topics
from millstream.local.broker.wire.fetch import FIRST_WITH_IDS, FetchRequest, FetchTopic, Parts, Wanted, wanted

MAX_SESSIONS = 1000
"""`max.incremental.fetch.session.cache.slots` of Apache Kafka; a reader that gets none fetches in full."""
EVICTABLE_AFTER_MS = 120_000
"""`min.incremental.fetch.session.eviction.ms`."""

FIRST_EPOCH = 0
NO_SESSION = -1


class Place:
    """One partition as a reader asks for it, understood from what it `sent`. `partition` is the error code where there
    is none; `end` and `start` are the offsets the reader was told last; `idle` is how an answer tells them, empty when
    they have changed."""

    __slots__ = ("end", "idle", "partition", "sent", "start", "topic", "wanted")

    def __init__(self, topic: str | UUID, sent: bytes, wanted: Wanted) -> None:
        self.topic = topic
        self.sent = sent
        self.wanted = wanted
        self.partition: Partition | ErrorCode = ErrorCode.unknown_server_error
        self.end = self.start = -1
        self.idle: Parts = ()

    def knows_all(self) -> bool:
        """Whether the reader has been told how far the log reaches."""
        log = self.partition.log if isinstance(self.partition, Partition) else None
        return log is not None and (self.end, self.start) == (log.end_offset, log.start_offset)


class Reading:
    """The places of one reader. `dirty` holds those to look at, in the order in which they shall be served; nothing
    has changed for the others since they were answered.

    It watches its partitions from the first `ask` to `rest`. `waiting` is called with the bytes that have been added,
    or with 0 when something else has changed.
    """

    __slots__ = ("_by_partition", "_changes", "_kind", "_sent", "_topics", "dirty", "topics", "waiting")

    def __init__(self, topics: Topics) -> None:
        self.topics: dict[str | UUID, dict[int, Place]] = {}
        self.dirty: dict[Place, None] = {}
        self.waiting: Callable[[int, Partition], None] | None = None
        self._sent: dict[str | UUID, set[bytes]] = {}
        self._kind: tuple[int, bool] | None = None
        self._topics = topics
        self._by_partition: dict[Partition, Place] = {}
        self._changes = -1

    def ask(self, asked: Iterable[FetchTopic]) -> None:
        """Take in what is new or different in a request."""
        if self._changes != self._topics.changes:
            self._wake_up()
        for topic, partitions in asked:
            known = self.topics.setdefault(topic, {})
            held = self._sent.setdefault(topic, set())
            if not held.issuperset(partitions):
                for sent in partitions:
                    if sent not in held:
                        self._put(known, topic, sent)

    def ask_only(self, asked: Iterable[FetchTopic]) -> None:
        """Take in a request that names everything: what it does not name is dropped."""
        self.ask(asked)
        named: dict[str | UUID, set[bytes]] = {}
        for topic, partitions in asked:
            named.setdefault(topic, set()).update(partitions)
        for topic, held in tuple(self._sent.items()):
            if topic not in named:
                self._forget_topic(topic)
            elif gone := held - named[topic]:
                self.forget([(topic, place.wanted[0]) for place in self.topics[topic].values() if place.sent in gone])

    def forget(self, places: Iterable[tuple[str | UUID, int]]) -> None:
        for topic, index in places:
            known = self.topics.get(topic, {})
            place = known.pop(index, None)
            if place is not None:
                self._leave(place)
            if not known:
                self._forget_topic(topic)

    def write_for(self, version: int, committed: bool) -> None:
        """From now on the answers are for this version and isolation."""
        if self._kind != (version, committed):
            self._kind = (version, committed)
            for place in self.places():
                place.idle = ()

    def grown(self, partition: Partition, size: int) -> None:
        place = self._by_partition[partition]
        place.idle = ()
        self.dirty[place] = None
        if self.waiting is not None:
            self.waiting(size, partition)

    def rest(self) -> None:
        """Watch nothing until the next `ask`."""
        for partition in self._by_partition:
            partition.waiters.discard(self)
        self._by_partition.clear()
        self._changes = -1

    def places(self) -> Iterator[Place]:
        for places in self.topics.values():
            yield from places.values()

    def _wake_up(self) -> None:
        """Topics have come or gone, or nobody watched: everything is looked at anew."""
        self.rest()
        self._changes = self._topics.changes
        for place in self.places():
            self._watch(place)

    def _put(self, known: dict[int, Place], topic: str | UUID, sent: bytes) -> None:
        asked = wanted(sent)
        place = known.get(asked[0])
        if place is None:
            place = known[asked[0]] = Place(topic, sent, asked)
            self._watch(place)
        else:
            before, place.wanted = place.wanted, asked
            self._sent[topic].discard(place.sent)
            place.sent = sent
            if isinstance(place.partition, Partition) and asked[1] == before[1]:
                self.dirty.pop(place, None)
                self.dirty[place] = None
            else:
                self._stop_watching(place)
                self._watch(place)
        self._sent[topic].add(sent)

    def _watch(self, place: Place) -> None:
        found = place.partition = self._find(place.topic, place.wanted)
        if isinstance(found, Partition):
            found.waiters.add(self)
            self._by_partition[found] = place
        self.dirty[place] = None
        place.idle = ()

    def _stop_watching(self, place: Place) -> None:
        partition = place.partition
        if isinstance(partition, Partition) and self._by_partition.get(partition) is place:
            partition.waiters.discard(self)
            del self._by_partition[partition]
        self.dirty.pop(place, None)

    def _leave(self, place: Place) -> None:
        self._stop_watching(place)
        self._sent[place.topic].discard(place.sent)

    def _forget_topic(self, topic: str | UUID) -> None:
        for place in self.topics.pop(topic, {}).values():
            self._stop_watching(place)
        self._sent.pop(topic, None)

    def _find(self, name: str | UUID, asked: Wanted) -> Partition | ErrorCode:
        index, epoch, *_ = asked
        if isinstance(name, UUID):
            topic, missing = self._topics.by_id.get(name), ErrorCode.unknown_topic_id
        else:
            topic, missing = self._topics.by_name.get(name), ErrorCode.unknown_topic_or_partition
        if topic is None:
            return missing
        if not 0 <= index < len(topic.partitions):
            return ErrorCode.unknown_topic_or_partition
        return ErrorCode.unknown_leader_epoch if epoch > 0 else topic.partitions[index]


class FetchSession:
    """A reading with a number, which the client names instead of repeating what it asks for. `epoch` is the one that
    the next request must bear."""

    def __init__(self, session_id: int, reading: Reading, *, by_id: bool) -> None:
        self.id = session_id
        self.reading = reading
        self.by_id = by_id
        self.epoch = 1
        self.used_at = 0


class FetchSessions:
    """All fetch sessions, at most MAX_SESSIONS; one that was not used for two minutes makes room for another."""

    def __init__(self, topics: Topics, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._by_id: OrderedDict[int, FetchSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def begin(self, request: FetchRequest, version: int) -> FetchSession | None:
        """End the session that a full request names; a new one if it wishes for one and there is room."""
        ended = self._by_id.pop(request.session_id, None)
        if ended is not None:
            ended.reading.rest()
        if request.session_epoch == NO_SESSION or not self._has_room():
            return None
        session = FetchSession(self._new_id(), Reading(self._topics), by_id=version >= FIRST_WITH_IDS)
        session.reading.ask_only(request.topics)
        session.used_at = self._clock()
        self._by_id[session.id] = session
        return session

    def go_on(self, request: FetchRequest, version: int) -> FetchSession | None:
        """The session of an incremental request, with what it changes taken in; None if nothing is left in it. Raises
        Refused."""
        session = self._by_id.get(request.session_id)
        if session is None:
            raise Refused(ErrorCode.fetch_session_id_not_found)
        if session.epoch != request.session_epoch:
            raise Refused(ErrorCode.invalid_fetch_session_epoch)
        if session.by_id != (version >= FIRST_WITH_IDS):
            raise Refused(ErrorCode.fetch_session_topic_id_error)
        session.reading.ask(request.topics)
        session.reading.forget(request.forgotten)
        if not session.reading.topics:
            del self._by_id[session.id]
            session.reading.rest()
            return None
        session.epoch = session.epoch + 1 if session.epoch < 2**31 - 1 else 1
        session.used_at = self._clock()
        self._by_id.move_to_end(session.id)
        return session

    def _has_room(self) -> bool:
        if len(self._by_id) < MAX_SESSIONS:
            return True
        oldest = next(iter(self._by_id.values()))
        if self._clock() - oldest.used_at <= EVICTABLE_AFTER_MS:
            return False
        del self._by_id[oldest.id]
        oldest.reading.rest()
        return True

    def _new_id(self) -> int:
        # By chance: a client of a broker that has been restarted must not find another's session under its number.
        while (chosen := 1 + int.from_bytes(os.urandom(8)) % (2**31 - 1)) in self._by_id:
            pass
        return chosen
