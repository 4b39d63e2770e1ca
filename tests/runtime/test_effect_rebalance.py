"""Effects while partitions go and come: what is under way then, and what of it still commits."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.effect_rig import EffectRig
from tests.runtime.sql_rig import running

from millstream.declare import Call
from millstream.runtime.effect_worker import EffectWorker
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
    monkeypatch.setattr("millstream.runtime.effect_worker.FINISH_SECONDS", 0.2)
    monkeypatch.setattr("millstream.runtime.effect_worker.SETTLE_SECONDS", 0.2)


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

    wait_until(shared, seconds=20, what="the partitions to be shared")
    before = first._member.group_metadata()
    wait_until(lambda: first._member.group_metadata() is not before, seconds=20, what="another poll")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", ["begin", "commit"])
def test_a_transaction_that_hangs_through_a_rebalance_does_not_commit(cluster: Cluster, tmp_path: Path, before: str):
    rig = EffectRig(cluster.bootstrap, tmp_path)
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
            rig.wait_until_caught_up()
            stuck.let_go()
            charge(rig, 1, STAYS)
            rig.wait_until_caught_up()
    assert rig.charged() == {"a": [0, 1], "b": [0, 1]}


@pytest.mark.usefixtures("impatient")
def test_without_transactions_positions_that_hang_through_a_rebalance_are_not_put_back(
    cluster: Cluster, tmp_path: Path
):
    rig = EffectRig(cluster.bootstrap, tmp_path, delivery="at_least_once")
    rig.make_topics()
    first, second = rig.worker(0), rig.worker(1)
    stuck = Stuck(first, "commit")
    with running(first):
        charge(rig, 0, STAYS, GOES)
        rig.wait_until_caught_up()
        stuck.hold()
        charge(rig, 1, GOES)
        assert stuck.hangs.wait(20)
        with running(second):
            wait_until_shared(rig, first, second)
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
            lambda: rig.calls() and sum(len(partition.lanes) for partition in worker._partitions.values()) == 10,
            seconds=20,
            what="one call, and nine that wait",
        )
    assert len(rig.calls()) == len(rig.calls("end")) == 1
    with running(rig.worker()):
        rig.wait_until_caught_up()
    assert sorted(number for _, number, _ in rig.calls()) == list(range(10))
