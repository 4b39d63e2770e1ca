"""Exactly once: two at it at the same time, and kill -9 in the middle: nothing twice, nothing left out."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from subprocess import Popen

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.operate.dlq.audit import AUDIT, SPEC
from millstream.operate.dlq.bulk import Limits, execute, redrives
from millstream.operate.dlq.executor import Actor, Done, RedriveExecutor
from millstream.testing.child import end, last_lines, spawn, wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow

COUNT = 120
ANN, BOB = Actor("ann@desk", "test"), Actor("bob@desk", "test")


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path) -> Iterator[DlqRig]:
    """On both brokers: what this is about, the broker promises."""
    made = DlqRig(cluster.bootstrap, cluster.registry, tmp_path)
    yield made
    made.close()


def child(rig: DlqRig, output: Path, *arguments: str) -> Popen[bytes]:
    script = (
        f"import os, sys; os.environ.update({rig.env!r}); os.chdir({str(rig.folder)!r}); "
        f"sys.argv = ['millstream', 'dlq', *{list(arguments)!r}]; "
        "from millstream.operate.cli import main; main()"
    )
    return spawn([sys.executable, "-c", script], output=output)


@pytest.fixture
def many(rig: DlqRig) -> DlqRig:
    rig.dead_letter(*rig.send(*(rig.module.Ordered(order_id=f"o-{n}") for n in range(COUNT))))
    return rig


def assert_each_once(rig: DlqRig) -> None:
    redriven = Counter(redrive.at for redrive in rig.redriven())
    actions = Counter(tuple(action["origin"]) for action in rig.actions())
    assert redriven == actions
    assert len(redriven) == COUNT
    assert set(redriven.values()) == {1}


def test_a_bulk_redrive(many: DlqRig, tmp_path: Path):
    output = tmp_path / "output.log"
    kills = 0
    for goal in (10, 40, 70):
        # Small transactions, so that the kill falls between or into one of many.
        process = child(many, output, "redrive", "--all", "--rate", "40/s")
        wait_until(lambda goal=goal: len(many.redriven()) >= goal, seconds=60, what=f"{goal} dead letters redriven")
        kills += process.poll() is None
        end(process, how=signal.SIGKILL)
        assert len(many.redriven()) < COUNT
    assert kills == 3, last_lines(output)
    process = child(many, output, "redrive", "--all")
    assert process.wait(40) == 0, last_lines(output)
    assert_each_once(many)


def test_the_service_that_redrives_by_rule(many: DlqRig, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "all"\nreason = "*"\nrate = "30/s"\n')
    output = tmp_path / "output.log"
    for goal in (10, 50):
        process = child(many, output, "serve", "--rules", str(rules))
        wait_until(lambda goal=goal: len(many.redriven()) >= goal, seconds=60, what=f"{goal} dead letters redriven")
        assert process.poll() is None, last_lines(output)
        end(process, how=signal.SIGKILL)
        assert len(many.redriven()) < COUNT
    process = child(many, output, "serve", "--rules", str(rules))
    wait_until(lambda: len(many.redriven()) >= COUNT, seconds=60, what="the rest")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, last_lines(output)
    assert_each_once(many)


def test_two_at_once_take_turns_and_nothing_is_done_twice(rig: DlqRig):
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(6)))
    anns, bobs = rig.context(), rig.context()
    dead_letters = rig.dead_letters()
    plans = [list(redrives(context, dead_letters, Limits())) for context in (anns, bobs)]
    with (
        RedriveExecutor(rig.kafka, rig.admin, rig.dlq, anns.audit, ANN) as ann,
        RedriveExecutor(rig.kafka, rig.admin, rig.dlq, bobs.audit, BOB) as bob,
    ):
        done = ann.execute(plans[0][:2])
        assert [one.mine for one in done] == [True, True]
        overlapping = bob.execute(plans[1][1:4])
        assert [one.mine for one in overlapping] == [False, True, True]
        assert overlapping[0].entry.by == "ann@desk"
        # Bob has fenced her; she begins again and finds what he did.
        assert [one.mine for one in ann.execute(plans[0])] == [True, True, False, False, True, True]
    assert len(rig.redriven()) == len(rig.actions()) == 6


def test_a_transaction_that_another_process_left_open_is_waited_for(rig: DlqRig):
    """What an open transaction hides on the audit could have been done already."""
    rig.dead_letter(rig.order("o-1"))
    context = rig.context()
    plans = list(redrives(context, rig.dead_letters(), Limits()))
    rig.admin.ensure_topics([SPEC])
    hiding = rig.kafka.transactional_producer(f"{rig.name}.hiding")
    hiding.begin()
    hiding.produce(AUDIT, b"{}", b"not of ours", partition=0)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: list(execute(context, plans, ANN)))
        place = (AUDIT, 0)
        wait_until(
            lambda: rig.admin.end_offsets([place], "read_uncommitted") != rig.admin.end_offsets([place]),
            seconds=60,
            what="an open transaction on the audit",
        )
        assert not wait([done], 1.0).done
        hiding.abort()
        hiding.close()
        [one] = done.result(30)
    assert isinstance(one, Done)
    assert one.mine
    assert len(rig.redriven()) == 1
