"""The worker of effects: outside calls side by side, their outcomes and the consumed positions committed together.

Two threads and a helper. This one polls, decodes and hands events over; an event loop of its own carries the calls out;
a helper thread of the loop's commits what is finished, so that neither polling nor calling ever waits for a commit.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.declare import Kind, Service
from millstream.errors import KafkaFault, Unavailable
from millstream.kafka.port import BEGINNING, Committed, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.effect.attempts import Attempts
from millstream.runtime.effect.calls import Calls
from millstream.runtime.effect.commits import Commits
from millstream.runtime.effect.group_member import GroupMemberProxy
from millstream.runtime.effect.health import EffectHealth
from millstream.runtime.effect.in_flight import InFlight, Partition, parked_in, too_busy
from millstream.runtime.effect.parked_topic import restore_parked
from millstream.runtime.effect.reading import InFlightReader
from millstream.runtime.effect.resources import Resources
from millstream.runtime.effect.watermark import Watermark
from millstream.runtime.loop.handler_worker import HandlerWorker
from millstream.runtime.loop.transaction import transaction_for
from millstream.runtime.records.output_topics import written_topics
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer, get_logger, still_alive, watched
from millstream.timeouts import CALLS_FINISH_TIMEOUT, CALLS_SETTLE_TIMEOUT, RESOURCE_TIMEOUT

log = get_logger(__name__)

CHUNK = 100
IDLE_WAIT = 0.1
PAUSED_WAIT = 0.01
"""Seconds of waiting for a record: when nothing is held back, and when a pause may end any moment."""
SERVE_SECONDS = 0.005
"""How often this thread helps those it waits for."""
REPORT_SECONDS = 0.5
"""Seconds between two reports of parked and failing events, which also notice pauses of the process."""


class EffectWorker(HandlerWorker):
    """Runs the effects of a service.

    Events of one key are carried out in order, and up to a handler's `concurrency` keys at once. Outcomes, dead
    letters, parked events and positions commit in one Kafka transaction; positions say which events beyond them are
    finished, so that a crash repeats only calls whose outcome is not committed, and those with the same `Call.key`.
    With `delivery="at_least_once"` outcomes are flushed before positions are committed.

    An event that is to be tried again is parked, with all that comes for its key; so it takes nothing from the others,
    and is tried on after a restart, wherever its partition is then.

    - `contracts`: with the schemas of all that is consumed and produced registered.

    `run` raises `Fenced` when a newer holder of the slot took over, the handler's own error where its policy is `stop`,
    what a resource raises when it is opened, and `KafkaFault` for what only an operator can mend.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        *,
        tracer: Tracer | None = None,
        health: Health | None = None,
    ) -> None:
        self._parked_topic = service.parked_topic(Kind.EFFECT)
        super().__init__(
            Kind.EFFECT,
            service,
            settings,
            contracts,
            kafka,
            state_topics=[self._parked_topic],
            max_records=CHUNK,
            timed=False,
            health=health,
        )
        self._handlers = service.of_kind(Kind.EFFECT)
        self._tracer = tracer or Tracer()
        self._health = health
        self._member = GroupMemberProxy(self._consumer)
        self._transaction = transaction_for(service, kafka, f"{self.name}.{settings.slot}")
        self._partitions: dict[TopicPartition, Partition] = {}
        self._in_flight = InFlightReader(
            self._reader, self._redrives, self._partitions, self._metrics, self._loop.outage
        )
        self._restored: list[InFlight] = []
        self._busy: set[TopicPartition] = set()
        """Partitions that are paused for events in hand."""
        self._failure: BaseException | None = None
        self._calling = threading.Thread(target=self._loop_forever, name=f"{self.name}.loop", daemon=True)
        self._ready: Future[None] = Future()
        self._event_loop: asyncio.AbstractEventLoop
        self._calls: Calls
        self._commits: Commits

    def run(self, stop: threading.Event) -> None:
        """Carry out effects until `stop` is set; then let calls under way finish for some seconds."""
        self._calling.start()
        self._loop.run(stop)
        if self._failure is not None:
            raise self._failure

    # What the loop asks for: on the thread that polls

    def open(self) -> None:
        self._wait_for_resources()
        self._loop.wait_out(lambda: self._ask_limits(written_topics(self._service, Kind.EFFECT)))
        self._loop.wait_out(self._transaction.start)

    def before_poll(self) -> float:
        self._pauses.beat()
        if self._failure is not None:
            raise self._failure
        self._busy = too_busy(self._partitions, self._busy)
        self._partition_pauses.hold_back(parked_in(self._partitions), self._busy)
        return PAUSED_WAIT if self._busy else IDLE_WAIT

    def process(self, batch: list[Message]) -> None:
        self._member.serve()
        if self._restored:
            # Not before: their completions commit with group metadata that knows of this assignment.
            self._tell_calls(self._calls.restore, self._restored)
            self._restored = []
        if batch:
            self._loop.check_order(batch, lambda at: self._partitions[at].watermark.end)
            self._tell_calls(self._calls.take, [self._in_flight.read(message) for message in batch])

    def meanwhile(self) -> None:
        # Calls under way go on, and commit through this thread.
        self._member.serve()

    def assign(self, partitions: list[TopicPartition]) -> Offsets:
        mine = self._assigned_partitions.mine(partitions)
        self._loop.ids.refresh()
        committed = self._loop.ids.valid(self._consumer.committed(mine))
        for at, (offset, done) in committed.items():
            self._partitions[at] = Partition(at, Watermark(offset, done))
        # Read after the positions: an event that they have moved past is parked by then.
        self._restore(mine)
        return {at: BEGINNING if found.offset is None else found.offset for at, found in committed.items()}

    def revoke(self, partitions: list[TopicPartition]) -> None:
        self._release([self._partitions[at] for at in partitions if at in self._partitions])
        self._forget(partitions)

    def lose(self, partitions: list[TopicPartition]) -> None:
        lost = [self._partitions[at] for at in partitions if at in self._partitions]
        for partition in lost:
            partition.gone = True
        self._in_calls(self._calls.close(lost, 0), 2.0)
        self._forget(partitions)

    def finish(self) -> None:
        self._release(list(self._partitions.values()))

    def close(self) -> None:
        """Let the event loop end, its resources closed."""
        if self._ready.done() and self._calling.is_alive():
            self._tell_calls(self._commits.leave)
            self._calling.join(CALLS_SETTLE_TIMEOUT)

    def _ask_limits(self, topics: Sequence[str]) -> None:
        super()._ask_limits(topics)
        self._transaction.keep_to(self._limits.smallest)

    def _wait_for_resources(self) -> None:
        try:
            self._ready.result(RESOURCE_TIMEOUT)
        except TimeoutError:
            raise Unavailable(f"What {self.name} needs was not open within {RESOURCE_TIMEOUT:g} s.") from None

    def _restore(self, partitions: list[TopicPartition]) -> None:
        parked = restore_parked(self._kafka, self._parked_topic, partitions)
        items = [self._in_flight.parked(event) for event in parked]
        for item in items:
            item.home.parked += 1
        if items:
            log.info("parked events restored", code="parked_events_restored", worker=self.name, events=len(items))
        self._restored += items

    def _release(self, partitions: list[Partition]) -> None:
        """Finish the calls under way in these partitions, commit them, and let the partitions go."""
        if partitions and self._calling.is_alive():
            self._in_calls(self._finish(partitions), CALLS_FINISH_TIMEOUT + CALLS_SETTLE_TIMEOUT)
        for partition in partitions:
            partition.gone = True

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for at in partitions:
            self._partitions.pop(at, None)
        # A rebalance may take within one poll what it gave: the next holder restores these.
        self._restored = [item for item in self._restored if item.home.at in self._partitions]
        self._partition_pauses.forget(partitions)
        self._busy = self._busy.difference(partitions)

    def _tell_calls(self, what: Callable[..., None], *arguments: Any) -> None:
        # A loop that just ended has left its reason in _failure.
        with suppress(RuntimeError):
            self._event_loop.call_soon_threadsafe(what, *arguments)

    def _in_calls(self, coroutine: Coroutine[Any, Any, None], seconds: float) -> None:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._event_loop)
            deadline = time.monotonic() + seconds
            while not wait([future], timeout=SERVE_SECONDS).done:
                # Commits meanwhile need this thread.
                self._member.serve()
                self._pauses.beat()
                if time.monotonic() > deadline:
                    log.warning(
                        "some calls do not end in time; they are repeated by the next owner",
                        code="effects_left_unfinished",
                        worker=self.name,
                        seconds=seconds,
                    )
                    return
            future.result()
        except KafkaFault as fault:
            self._fail(fault)
        except (RuntimeError, CancelledError):
            coroutine.close()

    # The event loop

    def _loop_forever(self) -> None:
        try:
            with watched(f"{self.name}.loop"):
                asyncio.run(self._live())
        except BaseException as error:
            self._fail(error)

    async def _live(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        resources = Resources(self._service, self._handlers, self._settings, self._fail)
        try:
            await resources.open()
            await self._serve(resources)
        except GeneratorExit:
            # The loop is gone, and nothing can be awaited any more.
            raise
        except BaseException:
            await resources.close()
            raise
        await resources.close()

    async def _serve(self, resources: Resources) -> None:
        attempts = Attempts(self._service.name, self._handlers, self._outbound, resources, self._pauses)
        health = EffectHealth(self._service.name, self.name, self._handlers, resources, self._health)
        self._calls = Calls(
            self._service,
            self._handlers,
            attempts,
            self._pauses,
            health,
            self._tracer,
            finished=lambda completion: self._commits.add(completion),
            failed=self._fail,
            limits=self._limits,
        )
        self._commits = Commits(
            self._transaction,
            self._member,
            self._parked_topic,
            self._committed,
            self._metrics,
            self._calls.refused,
            self._calls.not_parked,
            self._ask_limits,
            self._loop.ids,
        )
        self._ready.set_result(None)
        reporting = asyncio.create_task(self._report(health))
        reporting.add_done_callback(self._reporting_ended)
        try:
            await self._commits.run()
        finally:
            self._calls.leave()
            reporting.cancel()
            await health.close()
            await self._commits.close()

    def _reporting_ended(self, reporting: "asyncio.Task[None]") -> None:
        if not reporting.cancelled() and (error := reporting.exception()) is not None:
            self._fail(error)

    async def _report(self, health: EffectHealth) -> None:
        while True:
            still_alive()
            self._pauses.beat()
            events, retrying, held = self._calls.parked()
            self._metrics.parked(
                Kind.EFFECT.value, events, retrying=retrying, held=held, paused=self._partition_pauses.full
            )
            health.report()
            await asyncio.sleep(REPORT_SECONDS)

    def _committed(self) -> Mapping[TopicPartition, Committed]:
        admin = self._kafka.admin()
        try:
            return admin.group_offsets(self._group)
        finally:
            admin.close()

    async def _finish(self, partitions: list[Partition]) -> None:
        await self._calls.close(partitions, CALLS_FINISH_TIMEOUT)
        await self._commits.commit_all()

    def _fail(self, error: BaseException) -> None:
        """The worker must stop; its other thread sees why within a tenth of a second."""
        if self._failure is None:
            self._failure = error
        if not self._ready.done():
            self._ready.set_exception(error)
