"""Awaiting what a command led to, within the request that sent it."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from millstream.contracts import Contracts, edge_id, with_key
from millstream.declare import Contract, Topic
from millstream.errors import DecodeError, RegistryUnavailable, Unavailable
from millstream.kafka import END, Kafka, Message, TopicPartition, TopicSpec, headers_of
from millstream.settings import Settings
from millstream.telemetry import get_logger

if TYPE_CHECKING:
    from millstream.http.publisher import Publisher

MAX_WAITING: Final = 10_000
_IDLE_SECONDS: Final = 0.2
_CHUNK: Final = 500

log = get_logger(__name__)


class Outcomes:
    """Publishes commands and waits for the events that they cause. A worker: one consumer serves all requests.

    It follows the topics from their ends on, in a group of this process's own, and commits nothing; of what comes it
    reads the headers alone, until an event names a command that a request waits for as its cause.

        outcomes = web.outcomes(orders)

        @app.post("/orders/{order_id}/cancel")
        async def cancel(order_id: str) -> Response:
            match await outcomes.of(CancelOrder(order_id=order_id), within=seconds(2)):
                case OrderCancelled(): ...
                case CancelRefused(): ...
                case None: ...  # not yet: 202, with the Location where it will be seen
    """

    name = "outcomes"

    def __init__(
        self,
        service: str,
        topics: Sequence[Topic],
        publisher: "Publisher",
        contracts: Contracts,
        kafka: Kafka,
        settings: Settings,
        *,
        limit: int = MAX_WAITING,
    ) -> None:
        self._group = f"{service}.outcomes.{settings.slot}"
        self.specs = tuple(TopicSpec(topic.name, topic.partitions, topic.config()) for topic in topics)
        """The topics, as they are made where they are missing."""
        self._decode = {topic.name: contracts.decoder([topic]).decode for topic in topics}
        self._publisher = publisher
        self._kafka = kafka
        self._limit = limit
        # Changed on the event loop alone; the worker looks.
        self._waiting: dict[str, list[asyncio.Future[Contract | None]]] = {}
        self._requests = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble: str | None = "not following yet"
        self._positions: dict[TopicPartition, int] = {}

    async def of(
        self, command: Contract, *, within: timedelta, id: str | None = None, correlation_id: str | None = None
    ) -> Contract | None:
        """Publishes `command` and returns the first event that it caused; None where none came `within` that time.

        None says nothing about the command but that it is published: it may be done later, be set aside, or lead to no
        event. Of several events of one command the first is returned.

        - `within`: from now on; publishing may take longer, as `Publisher.publish` says, and then is not cut short.
        - `id`, `correlation_id`: as in `Publisher.publish`, which also tells what is raised.

        Raises `Unavailable` beside that, with nothing published, where too many requests wait already.
        """
        if self._requests >= self._limit:
            raise Unavailable("Too many requests wait for the outcome of a command. It is worth trying again.")
        id = id or edge_id()
        self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + within.total_seconds()
        answer: asyncio.Future[Contract | None] = self._loop.create_future()
        # Before it is published: its outcome may be here before the word that it is.
        self._waiting.setdefault(id, []).append(answer)
        self._requests += 1
        try:
            await self._publisher.publish(command, id=id, correlation_id=correlation_id)
            if not self._following and not answer.done():
                return None
            async with asyncio.timeout_at(deadline):
                return await answer
        except TimeoutError:  # not yet, as the caller is told
            return None
        finally:
            self._requests -= 1
            self._waiting[id].remove(answer)
            if not self._waiting[id]:
                del self._waiting[id]

    def probe(self) -> str | None:
        """For `Health.check`: None while outcomes can be seen."""
        return self._trouble

    def run(self, stop: threading.Event) -> None:
        """Follows the topics until `stop` is set; who still waits is answered None then.

        Makes those that are missing first. Raises what `Admin.ensure_topics` raises.
        """
        self._ensure_topics()
        # By the same name in the next life, so that it does not wait for the session of the last to run out.
        consumer = self._consumer = self._kafka.consumer(self._group, instance=self._group)
        try:
            topics = [spec.name for spec in self.specs]
            consumer.subscribe(topics, on_assigned=self._assigned, on_revoked=lambda partitions: None)
            while not stop.is_set():
                batch = consumer.poll_batch(_CHUNK, _IDLE_SECONDS)
                if batch:
                    self._positions.update(
                        {(message.topic(), message.partition()): message.offset() + 1 for message in batch}
                    )
                    self._tell(batch)
        finally:
            self._trouble = "ended"
            self._hop(None)
            consumer.close()

    def _ensure_topics(self) -> None:
        # Whose events they are may never have been started, and what a web factory follows is no part of what the
        # service declares: no other process makes them.
        admin = self._kafka.admin()
        try:
            admin.ensure_topics(self.specs)
        finally:
            admin.close()

    @property
    def _following(self) -> bool:
        return self._trouble is None

    def _assigned(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Go on where it was before a rebalance, so that no request misses what came meanwhile; first, at the end."""
        starts = {partition: self._positions.get(partition, END) for partition in partitions}
        for partition, start in starts.items():
            if start == END:
                # Asked for now: what is published from here on comes after it.
                starts[partition] = self._positions[partition] = self._consumer.watermarks(partition)[1]
        self._trouble = None
        return starts

    def _tell(self, batch: Sequence[Message]) -> None:
        if not self._waiting:
            return
        found: list[tuple[str, Contract]] = []
        for message in batch:
            cause = _cause(message)
            if cause is None or cause not in self._waiting:
                continue
            try:
                found.append((cause, with_key(self._decode[message.topic()](message.value()), message.key())))
            except (DecodeError, RegistryUnavailable) as error:
                log.warning(
                    "an outcome cannot be read",
                    code="outcome_unreadable",
                    command=cause,
                    topic=message.topic(),
                    error=str(error),
                )
        if found:
            self._hop(found)

    def _hop(self, found: Sequence[tuple[str, Contract]] | None) -> None:
        """To the event loop, once for all. None: nothing will come any more."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._answer, found)
        except RuntimeError:  # the loop is closed, and no request waits
            return

    def _answer(self, found: Sequence[tuple[str, Contract]] | None) -> None:
        if found is None:
            for answers in self._waiting.values():
                _settle(answers, None)
            return
        for cause, event in found:
            _settle(self._waiting.get(cause, ()), event)


def _settle(answers: Sequence["asyncio.Future[Contract | None]"], outcome: Contract | None) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(outcome)


def _cause(message: Message) -> str | None:
    for name, value in headers_of(message):
        if name == "causationid" and value is not None:
            return value.decode(errors="replace")
    return None
