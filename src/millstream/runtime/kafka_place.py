"""One partition of a Kafka worker: what its handlers are given."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from millstream.declare import Handler, Kind, Service, Store, key_of
from millstream.runtime.calling import Caller, Given
from millstream.runtime.dead_letters import Record
from millstream.runtime.inbound import Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.place import Keeping, Place
from millstream.state.kept import DueStore
from millstream.state.memory import MemoryStore
from millstream.state.ownership import Ownership


class KafkaPlace(Place):
    """A partition whose handlers keep their state in stores beside it.

    - `checked`: the stores that take only keys of the partition.
    """

    def __init__(
        self,
        partition: int,
        service: Service,
        keeping: Keeping,
        stores: Mapping[Any, MemoryStore[Any]],
        outbound: Outbound,
        callers: Mapping[str, Caller],
        checked: Iterable[Store[Any]],
    ) -> None:
        super().__init__(partition, service, Kind.KAFKA, keeping, stores)
        self._outbound = outbound
        self._callers = callers
        self._seen = None if keeping.seen is None else cast("DueStore", stores[keeping.seen])
        self.given = Given(states=cast("Any", stores), timers=self.timers, seen=self._seen)
        for store in checked:
            partitions = service.partitions(Kind.KAFKA)
            stores[store].ownership = Ownership(str(store), self.given.present, partition, partitions)

    def forget_old_ids(self, now: float, most: int) -> None:
        """Forget ids that were handled, and count no more; so many at once."""
        if self._seen is not None:
            for _ in range(most):
                if (old := self._seen.due(now)) is None:
                    return
                self._seen.delete(old[0])

    def attempt(self, handler: Handler, event: Any, meta: Meta, /) -> list[Record]:
        """One whole call of a handler. Whatever it raises, nothing of it is left."""
        self.given.present.key = key_of(event)
        try:
            return self._outbound.records(handler.name, meta, self._callers[handler.name](event, meta, self.given))
        except BaseException:
            self.undo()
            raise
