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
from millstream.errors import (
    CommitUnknown,
    DeclarationError,
    EncodeError,
    Fenced,
    MillstreamError,
    TransactionAborted,
    Unavailable,
)
from millstream.http.settle import settle
from millstream.http.tracing import incoming_traceparent
from millstream.kafka import Kafka, TransactionalProducer
from millstream.kafka.limits import RecordLimits
from millstream.runtime.records.route import ProducerRoute
from millstream.settings import Settings
from millstream.telemetry import Tracer, get_logger
from millstream.telemetry.metrics import PUBLISHER_BATCH_SIZE, PUBLISHER_EVENTS, PUBLISHER_PENDING, PUBLISHER_SECONDS
from millstream.timeouts import PUBLISH_TIMEOUT, PUBLISHER_COMMIT_TIMEOUT, PUBLISHER_REQUEST_TIMEOUT

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
MAX_TOGETHER: Final = 500
"""Requests in one transaction: enough to make its cost vanish, few enough to find one among them that is refused."""
TROUBLE_SECONDS: Final = 15.0
"""The seconds that health tells of a failed transaction, unless one succeeds: longer than the next one takes to fail.
Not without end: a process that is told unhealthy gets no more requests, and could never show that it is well again."""

Outgoing: TypeAlias = tuple[str, bytes, bytes | None, Headers]
"""Topic, key, value, headers."""

log = get_logger(__name__)


class _Request:
    """One request's records and the future of its answer.

    - `most`: requests in a transaction with it; fewer each time that one of its group is refused.
    - `had_turn`: a transaction with it has failed, for no fault of its own.
    """

    __slots__ = ("answer", "had_turn", "joined", "limit", "records", "size")

    def __init__(self, records: list[Outgoing], answer: "asyncio.Future[None]") -> None:
        self.records = records
        self.answer = answer
        self.joined = time.monotonic()
        self.limit = MAX_TOGETHER
        self.had_turn = False
        self.size = sum(len(record[2] or b"") for record in records)


class Publisher:
    """Publishes what web handlers give it. A worker: while one transaction commits, the next group gathers.

    - `service`: may publish what its handlers produce and do not own, and what it lists in `publishes=`.
    - `timeout`: seconds that a request waits for its turn at most, or until the transaction before it has ended; its
      own may take 10 more, and as long again to be taken back where a broker hangs.

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
        timeout: float = PUBLISH_TIMEOUT,
    ) -> None:
        self._service = service.name
        self._kafka = kafka
        self._transactional_id = f"{service.name}.publisher.{settings.slot}"
        self._owned = service.owned()
        said = [contract for contract in service.produced() if contract not in self._owned]
        self._routes = {
            contract: ProducerRoute(contract, service.name, contracts, settings.record_bytes) for contract in said
        }
        self._limits = RecordLimits(kafka, settings.message_bytes)
        self._limits_doubted = False
        self._tracer = tracer or Tracer()
        self._timeout = timeout
        self._joining: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()
        self._able = False
        self._trouble: str | None = "not connected yet"
        self._trouble_until = 0.0
        self._began: float | None = None
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
        trouble, began = self._trouble, self._began
        if trouble is None and began is not None and (seconds := time.monotonic() - began) > self._timeout:
            return f"a transaction has been under way for {seconds:.0f} s"
        return trouble

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
            while self._waiting and self._able:
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
            route = self._routes.get(type(event))
            if route is None:
                check_owned({self._service: [type(event)]}, self._owned)
                raise DeclarationError(
                    f"{self._service} does not declare that it publishes {type(event).__name__}: "
                    f"Service({self._service!r}, publishes=[{type(event).__name__}])"
                )
            key, data = route.key(event).encode(), route.encode(event)
            own_id, cause = (id, None) if ordinal == 0 else (derived_id(id, "publish", ordinal), id)
            headers = route.headers(own_id, correlation_id, cause, self._sent(route.topic, key, traceparent))
            try:
                value = route.value(data, headers)
            except EncodeError:
                # The topic's limit may be another by now: the next request will know.
                self._limits_doubted = True
                raise
            records.append((route.topic, key, value, headers))
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
            self._joined - self._left >= MAX_WAITING
            or self._joined_bytes - self._left_bytes + request.size > MAX_WAITING_BYTES
        ):
            raise Unavailable("Too many requests wait to be published.")
        self._joined += 1
        self._joined_bytes += request.size
        self._joining.put(request)

    def _connected(self, producer: TransactionalProducer) -> bool:
        """Return whether transactions are possible; where they are not, one bounded try to make them so."""
        if self._limits_doubted:
            self._limits_doubted = False
            if self._limits.changed():
                self._keep_to_limits()
        if not self._able:
            self._limits.ask({route.topic for route in self._routes.values()}, PUBLISHER_REQUEST_TIMEOUT)
            self._keep_to_limits()
            producer.keep_to(self._limits.smallest)
            try:
                producer.init(PUBLISHER_REQUEST_TIMEOUT)
            except Unavailable as unavailable:
                self._trouble = str(unavailable)
                self._gather(0)
                self._expire()
                return False
            self._able = True
        if self._trouble is not None and time.monotonic() >= self._trouble_until:
            self._trouble = None
        return True

    def _keep_to_limits(self) -> None:
        for route in self._routes.values():
            route.keep_to(self._limits)

    def _gather(self, timeout: float) -> None:
        if self._waiting:
            timeout = 0
        try:
            if timeout:
                self._waiting.append(self._joining.get(timeout=timeout))
            while True:
                self._waiting.append(self._joining.get_nowait())
        except queue.Empty:  # that is all there is now
            return

    def _expire(self) -> None:
        too_old = time.monotonic() - self._timeout
        expired: list[_Request] = []
        while self._waiting and self._waiting[0].joined < too_old:
            expired.append(self._waiting.popleft())
        why = self._trouble or "Too many requests wait to be published."
        self._finish(expired, Unavailable(f"Nothing was written in time. {why}"), "refused")

    def _publish_group(self, producer: TransactionalProducer) -> None:
        """One transaction with the records of those who wait longest. All of them are answered, or wait again."""
        self._expire()
        group = self._next_group()
        if not group:
            return
        self._batch_size.observe(len(group))
        self._began = time.monotonic()
        try:
            producer.begin(PUBLISHER_REQUEST_TIMEOUT)
            for request in group:
                for topic, key, value, headers in request.records:
                    producer.produce(topic, value, key, headers)
            producer.commit(PUBLISHER_COMMIT_TIMEOUT)
        except CommitUnknown as unknown:
            self._tell(unknown)
            self._finish(group, unknown, "unknown")
        except (Unavailable, TransactionAborted) as passing:
            log.warning("publishing aborted", code="publishing_aborted", requests=len(group), error=str(passing))
            self._tell(passing)
            self._once_more(group, passing)
            producer.abort(PUBLISHER_REQUEST_TIMEOUT)
        except BaseException as error:
            # Also what is no `Exception`: who waits for this group must hear of its end.
            if isinstance(error, Fenced) or not isinstance(error, MillstreamError):
                self._trouble = str(error)
                why = f"The publisher ended while this was published: {error}"
                self._finish(group, CommitUnknown(why), "unknown")
                raise
            self._refuse(group, error)
            producer.abort(PUBLISHER_REQUEST_TIMEOUT)
        else:
            self._trouble, self._trouble_until = None, 0.0
            self._finish(group, None, "committed")
        finally:
            self._began = None

    def _next_group(self) -> list[_Request]:
        group: list[_Request] = []
        limit = self._waiting[0].limit if self._waiting else 0
        while self._waiting and self._waiting[0].limit == limit and len(group) < limit:
            group.append(self._waiting.popleft())
        return group

    def _tell(self, error: MillstreamError) -> None:
        """Let health tell, and make sure of a broker before the next transaction."""
        self._able = False
        self._trouble, self._trouble_until = str(error), time.monotonic() + TROUBLE_SECONDS

    def _once_more(self, group: list[_Request], error: MillstreamError) -> None:
        """Those who have had one turn only are the next again, unless their time-out has passed."""
        self._finish([request for request in group if request.had_turn], error, "aborted")
        again = [request for request in group if not request.had_turn]
        for request in again:
            request.had_turn = True
        self._waiting.extendleft(reversed(again))
        self._expire()

    def _refuse(self, group: list[_Request], error: MillstreamError) -> None:
        """A record is refused: one request is told, of several each half is the next, until it is alone."""
        if len(group) == 1:
            self._finish(group, error, "aborted")
            return
        log.warning(
            "a record is refused; its group is tried again in halves",
            code="records_refused",
            requests=len(group),
            error=str(error),
        )
        for request in group:
            request.limit = len(group) // 2
        self._waiting.extendleft(reversed(group))

    def _finish(self, group: Iterable[_Request], outcome: MillstreamError | None, result: str) -> None:
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
            PUBLISHER_EVENTS.labels(self._service, topic, result).inc(count)
