"""Publishing from web handlers by group commit: many requests, one Kafka transaction."""

import asyncio
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from millstream.contracts import Contracts, Headers, derived_id, edge_id
from millstream.declare import Contract, Service
from millstream.declare.owning import check_owned
from millstream.errors import CommitUnknown, DeclarationError, Fenced, MillstreamError, Unavailable
from millstream.http.settle import settle
from millstream.http.tracing import incoming_traceparent
from millstream.kafka import Kafka, TransactionalProducer
from millstream.runtime.way import Way
from millstream.settings import Settings
from millstream.telemetry import Tracer, get_logger
from millstream.telemetry.metrics import PUBLISHER_BATCH_SIZE, PUBLISHER_EVENTS, PUBLISHER_PENDING, PUBLISHER_SECONDS

MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
MOST_TOGETHER: Final = 500
"""Requests in one transaction: enough to make its cost vanish, few enough to retry each alone after an abort."""
PATIENCE: Final = 5.0
"""Seconds that a request waits for its turn, so that a broker that restarts is not noticed by anybody."""
CONNECT_SECONDS: Final = 2.0
COMMIT_SECONDS: Final = 10.0

Outgoing: TypeAlias = tuple[str, bytes, bytes, Headers]
"""Topic, key, value, headers."""

log = get_logger(__name__)


class _Request:
    """One request's records and the future of its answer."""

    __slots__ = ("answer", "joined", "records", "size")

    def __init__(self, records: list[Outgoing], answer: "asyncio.Future[None]") -> None:
        self.records = records
        self.answer = answer
        self.joined = time.monotonic()
        self.size = sum(len(record[2]) for record in records)


class Publisher:
    """Publishes what web handlers give it. A worker: while one transaction commits, the next group gathers.

    - `service`: may publish what its handlers produce and do not own, and what it lists in `publishes=`.
    - `patience`: seconds that a request waits for its turn at most; its own transaction may take 10 more.

        await web.publisher.publish(OrderCreated(...), ConfirmationWanted(...))
    """

    name = "publisher"

    def __init__(
        self,
        service: Service,
        contracts: Contracts,
        kafka: Kafka,
        settings: Settings,
        *,
        tracer: Tracer | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._service = service.name
        self._kafka = kafka
        self._transactional_id = f"{service.name}.publisher.{settings.slot}"
        self._owned = service.owned()
        said = [contract for contract in service.produced() if contract not in self._owned]
        self._ways = {contract: Way(contract, service.name, contracts, settings.record_bytes) for contract in said}
        self._tracer = tracer or Tracer()
        self._patience = patience
        self._joining: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()
        self._trouble: str | None = "not connected yet"
        self._accepting = True
        # Each counted up by one thread alone: the event loop's, and the worker's.
        self._joined = self._left = self._joined_bytes = self._left_bytes = 0
        self._batch_size = PUBLISHER_BATCH_SIZE.labels(self._service)
        self._seconds = PUBLISHER_SECONDS.labels(self._service)
        PUBLISHER_PENDING.labels(self._service).set_function(lambda: self._joined - self._left)

    async def publish(
        self, event: Contract, *more: Contract, id: str | None = None, correlation_id: str | None = None
    ) -> str:
        """Publishes one request's events, all or none, and returns the first one's id when they are committed.

        - `more`: caused by the first; their ids are derived from its id.
        - `id`: of the first event, where a repeated request must publish the same one; default: a new UUIDv7.
        - `correlation_id`: of the story that this belongs to; default: the first event starts one.

        Raises, each for this request alone:

        - `EncodeError`: an event does not fit its schema. `DeclarationError`: the service does not list it, or an
          aggregate of it alone says it.
        - `Unavailable`, `TransactionAborted`: nothing was written. Worth repeating.
        - `CommitUnknown`: all or nothing was written. Safe to repeat with the same `id`.
        - another `KafkaFault`: the cluster refuses a record; nothing was written.

        Being cancelled while it waits does not take the events back.
        """
        id = id or edge_id()
        records = self._records(id, correlation_id or id, (event, *more))
        request = _Request(records, asyncio.get_running_loop().create_future())
        self._join(request)
        await request.answer
        return id

    def probe(self) -> str | None:
        """For `Health.check`: None while transactions are possible."""
        return self._trouble

    def run(self, stop: threading.Event) -> None:
        """Publishes until `stop` is set, and then what waits. Raises `Fenced` when another process took over."""
        producer = self._kafka.transactional_producer(self._transactional_id)
        try:
            while not stop.is_set():
                if self._connected(producer):
                    self._gather(0.2)
                    self._publish_group(producer)
            self._accepting = False
            self._gather(0)
            while self._waiting and self._trouble is None:
                self._publish_group(producer)
        finally:
            self._accepting = False
            self._gather(0)
            self._finish(self._waiting, Unavailable("This process is stopping."), "refused")
            producer.close()

    def _records(self, id: str, correlation_id: str, events: Sequence[Contract]) -> list[Outgoing]:
        traceparent = incoming_traceparent()
        records: list[Outgoing] = []
        for ordinal, event in enumerate(events):
            way = self._ways.get(type(event))
            if way is None:
                check_owned({self._service: [type(event)]}, self._owned)
                raise DeclarationError(
                    f"{self._service} does not declare that it publishes {type(event).__name__}: "
                    f"Service({self._service!r}, publishes=[{type(event).__name__}])"
                )
            key, data = way.key(event).encode(), way.encode(event)
            own_id, cause = (id, None) if ordinal == 0 else (derived_id(id, "publish", ordinal), id)
            headers = way.headers(own_id, correlation_id, cause, self._sent(way.topic, key, traceparent))
            records.append((way.topic, key, way.value(data, headers), headers))
        return records

    def _sent(self, topic: str, key: bytes, traceparent: bytes | None) -> bytes | None:
        if not self._tracer.enabled:
            return traceparent
        with self._tracer.send_span(topic, traceparent, key=key) as span:
            return span.traceparent

    def _join(self, request: _Request) -> None:
        if not self._accepting:
            raise Unavailable("This process is stopping.")
        if (
            self._joined - self._left >= MOST_WAITING
            or self._joined_bytes - self._left_bytes + request.size > MOST_WAITING_BYTES
        ):
            raise Unavailable("Too many requests wait to be published.")
        self._joined += 1
        self._joined_bytes += request.size
        self._joining.put(request)

    def _connected(self, producer: TransactionalProducer) -> bool:
        """Whether transactions are possible; where they are not, one bounded try to make them so."""
        if self._trouble is None:
            return True
        try:
            producer.init(CONNECT_SECONDS)
        except Unavailable as unavailable:
            self._trouble = str(unavailable)
            self._gather(0)
            self._expire()
            return False
        self._trouble = None
        return True

    def _gather(self, timeout: float) -> None:
        if self._waiting:
            timeout = 0
        try:
            if timeout:
                self._waiting.append(self._joining.get(timeout=timeout))
            while True:
                self._waiting.append(self._joining.get_nowait())
        except queue.Empty:
            return

    def _expire(self) -> None:
        too_old = time.monotonic() - self._patience
        expired: list[_Request] = []
        while self._waiting and self._waiting[0].joined < too_old:
            expired.append(self._waiting.popleft())
        self._finish(expired, Unavailable("No broker answered in time; nothing was written."), "refused")

    def _publish_group(self, producer: TransactionalProducer) -> None:
        self._expire()
        group = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
        if not group:
            return
        self._batch_size.observe(len(group))
        if self._attempt(producer, group, again=True):
            return
        for request in group:
            self._attempt(producer, [request], again=False)

    def _attempt(self, producer: TransactionalProducer, group: list[_Request], *, again: bool) -> bool:
        """One transaction with the records of `group`. False where each of them should be tried again, alone."""
        try:
            producer.begin(CONNECT_SECONDS)
            for request in group:
                for topic, key, value, headers in request.records:
                    producer.produce(topic, value, key, headers)
            producer.commit(COMMIT_SECONDS)
        except Fenced as fenced:
            self._trouble = str(fenced)
            self._finish(
                group, CommitUnknown(f"Another process took over while this was published: {fenced}"), "unknown"
            )
            raise
        except CommitUnknown as unknown:
            self._trouble = str(unknown)
            self._finish(group, unknown, "unknown")
        except MillstreamError as error:
            producer.abort()
            if isinstance(error, Unavailable):
                self._trouble = str(error)
            elif again:
                log.warning(
                    "publishing aborted; each request is tried again alone", requests=len(group), error=str(error)
                )
                return False
            self._finish(group, error, "aborted")
        else:
            self._trouble = None
            self._finish(group, None, "committed")
        return True

    def _finish(self, group: Iterable[_Request], outcome: MillstreamError | None, told: str) -> None:
        group = list(group)
        if not group:
            return
        settle([(request.answer, outcome) for request in group])
        self._left += len(group)
        self._left_bytes += sum(request.size for request in group)
        now = time.monotonic()
        for request in group:
            self._seconds.observe(now - request.joined)
        for topic, count in Counter(record[0] for request in group for record in request.records).items():
            PUBLISHER_EVENTS.labels(self._service, topic, told).inc(count)
