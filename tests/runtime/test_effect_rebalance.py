"""Effects while partitions go and come: what is under way then, and what of it still commits."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.runtime.effect_rig import EffectRig, Payments
from tests.runtime.sql_rig import running

from millstream.contracts import Contracts
from millstream.declare import Call
from millstream.errors import Unsettled
from millstream.kafka.limits import RecordLimits
from millstream.kafka.port import Kafka
from millstream.runtime.effect.attempts import Attempts
from millstream.runtime.effect.calls import Calls
from millstream.runtime.effect.health import EffectHealth
from millstream.runtime.effect.in_flight import Completion, InFlight, Partition
from millstream.runtime.effect.resources import Resources
from millstream.runtime.effect.watermark import Watermark
from millstream.runtime.effect.worker import EffectWorker
from millstream.runtime.process_pauses import ProcessPauses
from millstream.runtime.records.outbound import Outbound
from millstream.runtime.task.parked import ParkedEvent
from millstream.settings import Settings
from millstream.telemetry import Tracer
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster


class Stuck:
    """A worker whose commits hang from `hold` to `let_go`, before they `begin` or before they `commit`."""

    def __init__(self, worker: EffectWorker, before: str) -> None:
        self.hangs = threading.Event()
        self._gate = threading.Event()
        self._gate.set()
        step = getattr(worker._transaction, before)

        def stuck(*arguments: Any) -> None:
            if not self._gate.is_set():
                self.hangs.set()
                self._gate.wait(30)
            step(*arguments)

        setattr(worker._transaction, before, stuck)

    def hold(self) -> None:
        self._gate.clear()

    def let_go(self) -> None:
        self._gate.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives partitions up waits for its commits no longer than a test wants to."""
    monkeypatch.setattr("millstream.runtime.effect.worker.CALLS_FINISH_TIMEOUT", 0.2)
    monkeypatch.setattr("millstream.runtime.effect.worker.CALLS_SETTLE_TIMEOUT", 0.2)


STAYS, GOES = 0, 1
"""The partitions that a first instance keeps and gives up when a second one comes."""


def charge(rig: EffectRig, number: int, *partitions: int) -> None:
    for partition in partitions:
        rig.send(("ab"[partition], b'{"card":"%c","number":%d}' % (b"ab"[partition], number)), partition=partition)


def wait_until_shared(rig: EffectRig, first: EffectWorker, second: EffectWorker) -> None:
    """Each holds its partition, and the first has the group metadata that says so."""
    topic = rig.payments.charges.name

    def shared() -> bool:
        return (topic, STAYS) in first._partitions and (topic, GOES) in second._partitions

    wait_until(shared, seconds=60, what="the partitions to be shared")
    before = first._member.group_metadata()
    wait_until(lambda: first._member.group_metadata() is not before, seconds=60, what="another poll")


@contextmanager
def hung_through_a_rebalance(rig: EffectRig, before: str) -> Iterator[Stuck]:
    """A first worker that hangs with an event of the partition that a second one, which runs too, has by now."""
    rig.make_topics()
    first, second = rig.worker(0), rig.worker(1)
    stuck = Stuck(first, before)
    with running(first):
        charge(rig, 0, STAYS, GOES)
        rig.wait_until_caught_up()
        stuck.hold()
        charge(rig, 1, GOES)
        assert stuck.hangs.wait(20)
        with running(second):
            wait_until_shared(rig, first, second)
            yield stuck


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", ["begin", "commit"])
def test_a_transaction_that_hangs_through_a_rebalance_does_not_commit(cluster: Cluster, tmp_path: Path, before: str):
    rig = EffectRig(cluster.bootstrap, tmp_path)
    with hung_through_a_rebalance(rig, before) as stuck:
        rig.wait_until_caught_up()
        stuck.let_go()
        charge(rig, 1, STAYS)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [0, 1], "b": [0, 1]}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_without_transactions_positions_that_hang_through_a_rebalance_are_not_put_back(
    cluster: Cluster, tmp_path: Path
):
    rig = EffectRig(cluster.bootstrap, tmp_path, delivery="at_least_once")
    with hung_through_a_rebalance(rig, "commit") as stuck:
        charge(rig, 2, GOES)
        rig.wait_until_caught_up()
        stuck.let_go()
        # Committed after what hung, and by the same thread.
        charge(rig, 3, STAYS)
        rig.wait_until_caught_up(10)


def test_calls_that_wait_for_room_when_the_worker_stops_are_left_to_the_next_life(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, concurrency=1)
    rig.make_topics()
    worker = rig.worker()

    async def end_when_they_close(number: int, call: Call) -> None:
        def closing() -> bool:
            return all(partition.closing for partition in worker._partitions.values())

        await asyncio.to_thread(wait_until, closing, seconds=20, what="the partitions to close")

    rig.payments.trouble = end_when_they_close
    rig.charge(*[(f"card-{number}", number) for number in range(10)])
    with running(worker):
        wait_until(
            lambda: rig.calls() and sum(len(partition.queues) for partition in worker._partitions.values()) == 10,
            seconds=60,
            what="one call, and nine that wait",
        )
    assert len(rig.calls()) == len(rig.calls("end")) == 1
    with running(rig.worker()):
        rig.wait_until_caught_up()
    assert sorted(number for _, number, _ in rig.calls()) == list(range(10))


@pytest.mark.slow
def test_partitions_that_go_and_come_back_within_one_poll_go_on_with_what_is_parked(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, attempts=None, backoff=0.05)
    rig.make_topics()
    down = True

    async def trouble(number: int, call: Call) -> None:
        if down:
            raise Unsettled("ask later")

    rig.payments.trouble = trouble
    rig.charge(("a", 1), ("a", 2))
    with running(rig.worker()):
        wait_until(lambda: len(rig.parked()) == 2, seconds=60, what="two parked events")
    down = False
    worker = rig.worker()
    poll, again = worker._consumer.poll_batch, []

    def poll_with_a_second_rebalance(*arguments: Any) -> Any:
        batch = poll(*arguments)
        if worker._restored and not again:
            again.extend(worker._consumer.assignment())
            worker.revoke(again)
            worker.assign(again)
        return batch

    worker._consumer.poll_batch = poll_with_a_second_rebalance
    with running(worker):
        rig.wait_until_charged(2)
        rig.charge(("a", 3))
        rig.wait_until_charged(3)
    assert again
    assert rig.charged() == {"a": [1, 2, 3]}
    assert rig.parked() == []


def test_events_join_no_queue_of_a_former_assignment_of_their_partition():
    payments, done = Payments("till"), list[Completion]()
    at = (payments.charges.name, 0)

    def item(partition: Partition) -> InFlight:
        return InFlight(partition, partition, 7, ParkedEvent(at=(*at, 7), stamp=(1, 0), raw_key=b"a"), parked=True)

    async def go_and_come_back() -> None:
        name = payments.service.name
        limits = RecordLimits(cast(Kafka, None), 1_000)  # no topic is written, so none is asked about
        outbound = Outbound(payments.service, Contracts(None), 1_000)
        resources = Resources(payments.service, (), Settings(), pytest.fail)
        pauses = ProcessPauses()
        calls = Calls(
            payments.service,
            (),
            Attempts(name, (), outbound, resources, pauses),
            pauses,
            EffectHealth(name, f"{name}.effect", (), resources, None),
            Tracer(),
            finished=done.append,
            failed=pytest.fail,
            limits=limits,
        )
        before, after = Partition(at, Watermark(0)), Partition(at, Watermark(0))
        calls.restore([item(before)])
        before.closing = True
        calls.restore([item(after)])
        await asyncio.wait([queue.task for each in (before, after) for queue in each.queues if queue.task])
        assert [completion.partition for completion in done] == [after]

    asyncio.run(go_and_come_back())
