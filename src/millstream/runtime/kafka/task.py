"""The task of a Kafka worker: one partition, its stores, and the context of its handlers."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from millstream.declare import Handler, Kind, Service, Store, key_of
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.outbound import Outbound
from millstream.runtime.task.invoke import HandlerContext, Invoker
from millstream.runtime.task.partition_task import InternalStores, PartitionTask
from millstream.state.internal_store import DueStore
from millstream.state.memory import MemoryStore
from millstream.state.ownership import Ownership


class KafkaTask(PartitionTask):
    """A task whose handlers have their state in stores of the same partition.

    - `checked`: the stores that take only keys of the partition.
    """

    def __init__(
        self,
        partition: int,
        service: Service,
        internal_stores: InternalStores,
        stores: Mapping[Any, MemoryStore[Any]],
        outbound: Outbound,
        invokers: Mapping[str, Invoker],
        checked: Iterable[Store[Any]],
    ) -> None:
        super().__init__(partition, service, Kind.KAFKA, internal_stores, stores)
        self._outbound = outbound
        self._invokers = invokers
        self._inbox = None if internal_stores.inbox is None else cast("DueStore", stores[internal_stores.inbox])
        self.context = HandlerContext(states=cast("Any", stores), timers=self.timers, inbox=self._inbox)
        for store in checked:
            partitions = service.partitions(Kind.KAFKA)
            stores[store].ownership = Ownership(str(store), self.context.present, partition, partitions)

    def forget_old_ids(self, now: float, limit: int) -> None:
        """Delete ids whose window has passed, up to `limit` of them."""
        if self._inbox is not None:
            for _ in range(limit):
                if (old := self._inbox.due(now)) is None:
                    return
                self._inbox.delete(old[0])

    def _call(self, handler: Handler, event: Any, meta: EventMetadata) -> list[Record]:
        self.context.present.key = key_of(event)
        return self._outbound.records(handler.name, meta, self._invokers[handler.name](event, meta, self.context))
