"""The stores of a service, for the partitions that this instance holds."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from millstream.contracts.catalogue import Contracts
from millstream.declare import Service, Store
from millstream.kafka.limits import RecordLimits
from millstream.kafka.metadata_wait import wait_for_transactions
from millstream.kafka.port import Kafka
from millstream.state.internal_store import InternalStore
from millstream.state.memory import MemoryStore
from millstream.state.partitioned_stores import PartitionedStores
from millstream.telemetry import get_logger, metrics
from millstream.timeouts import OPEN_TRANSACTION_TIMEOUT

log = get_logger(__name__)

_INTERNAL_KEY_BYTES = 300
"""The number of bytes that a key of the runtime's own stores may have."""

AnyStore: TypeAlias = Store[Any] | InternalStore[Any]

Progress = Callable[[str, int, float], None]
"""Told of a restore as it goes: the changelog, how many records so far, and seconds since it began."""


class Change(NamedTuple):
    """One record for a changelog; no `value`: the key was deleted."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


class StatePartitions(PartitionedStores[AnyStore]):
    """All partitions of all stores of one worker, with a changelog each.

    Partition n of a store belongs to partition n of the topics that its handlers read, and to partition n of its
    changelog.

    - `internal_stores`: the runtime's own, beside the stores of the service.
    - `transaction_timeout`: seconds that a restore waits for a transaction that another process left open.
    - `record_bytes`: how large a value may be.
    """

    def __init__(
        self,
        service: Service,
        contracts: Contracts,
        kafka: Kafka,
        internal_stores: Sequence[InternalStore[Any]] = (),
        *,
        transaction_timeout: float = OPEN_TRANSACTION_TIMEOUT,
        record_bytes: int = 1_000_000,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self._service = service.name
        self._record_bytes = record_bytes
        self._kafka = kafka
        self._transaction_timeout = transaction_timeout
        self._progress = progress
        self._changelogs: dict[AnyStore, str] = {store: store.changelog(service.name) for store in service.stores()}
        self._routes = {store: contracts.values(topic, store.value) for store, topic in self._changelogs.items()}
        self._internal_stores = tuple(internal_stores)
        self._changelogs |= {store: store.topic for store in self._internal_stores}
        self._limits: dict[AnyStore, int] = {}

    @property
    def topics(self) -> list[str]:
        """The changelogs."""
        return list(self._changelogs.values())

    def keep_to(self, limits: RecordLimits) -> None:
        """Keep no value that its changelog does not take."""
        self._limits = {
            store: min(self._record_bytes, limits.value(topic))
            if store in self._routes
            else limits.record(topic) - _INTERNAL_KEY_BYTES
            for store, topic in self._changelogs.items()
        }
        for stores in self._held.values():
            self._limit(stores)

    def _limit(self, stores: Mapping[AnyStore, MemoryStore[Any]]) -> None:
        for store, held in stores.items():
            if store in self._limits:
                held.max_bytes = self._limits[store]

    def restore(self, partitions: Iterable[int]) -> None:
        """Rebuild what was committed for these partitions; those that are here already stay as they are.

        Everybody who wrote to them must have stopped: a former holder has committed, died or been fenced. Raises
        `Unavailable` if brokers do not answer, or a transaction of a dead holder stays open for too long.
        """
        new = sorted(set(partitions) - self._held.keys())
        if not new:
            return
        fresh = {partition: self._empty() for partition in new}
        if self._changelogs:
            changelogs = [(topic, partition) for topic in self._changelogs.values() for partition in new]
            wait_for_transactions(self._kafka, changelogs, self._transaction_timeout)
        for store, topic in self._changelogs.items():
            self._read(store, topic, {partition: fresh[partition][store] for partition in new})
        self._held |= fresh

    def _empty(self) -> dict[AnyStore, MemoryStore[Any]]:
        stores: dict[AnyStore, MemoryStore[Any]] = {
            store: MemoryStore(store, route.encode, route.decode, self._record_bytes)
            for store, route in self._routes.items()
        }
        stores |= {store: store.partition() for store in self._internal_stores}
        self._limit(stores)
        return stores

    def changes(self) -> Iterator[Change]:
        """The changes of the current transaction, for the changelogs."""
        for partition, stores in self._held.items():
            for store, state in stores.items():
                if changed := state.changes():
                    topic = self._changelogs[store]
                    for key, value in changed.items():
                        yield Change(topic, partition, key.encode(), value)

    def _read(self, store: AnyStore, topic: str, states: dict[int, MemoryStore[Any]]) -> None:
        began, count = time.monotonic(), 0
        for size in read_changelog(self._kafka, topic, states):
            count += size
            if self._progress is not None:
                self._progress(topic, count, time.monotonic() - began)
        took = time.monotonic() - began
        metrics.RESTORE_SECONDS.labels(self._service, store.name).set(took)
        log.info(
            "store restored",
            code="store_restored",
            topic=topic,
            partitions=list(states),
            records=count,
            seconds=round(took, 3),
        )


def read_changelog(kafka: Kafka, topic: str, states: Mapping[int, MemoryStore[Any]]) -> Iterator[int]:
    """Restore partitions of a store from its changelog. Yields how many records each batch had."""
    restores = {partition: state.restore for partition, state in states.items()}
    for batch in kafka.read_to_end(topic, list(states)):
        for message in batch:
            key = message.key()
            if key is not None:
                # Bytes that another client wrote here must not keep the rest from being restored.
                restores[message.partition()](key.decode(errors="surrogateescape"), message.value())
        yield len(batch)
