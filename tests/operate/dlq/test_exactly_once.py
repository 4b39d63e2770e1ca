"""Exactly once: two at it at the same time, and kill -9 in the middle: nothing twice, nothing left out."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from subprocess import Popen

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.operate.dlq.audit import AUDIT, SPEC
from millstream.operate.dlq.bulk import Limits, carry_out, redrives
from millstream.operate.dlq.clerk import Clerk, Done, Person
from millstream.testing.child import end, last_lines, spawn, wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow

LETTERS = 120
ANN, BOB = Person("ann@desk", "test"), Person("bob@desk", "test")


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path) -> Iterator[LettersRig]:
    """On both brokers: what this is about, the broker promises."""
    made = LettersRig(cluster.bootstrap, cluster.registry, tmp_path)
    yield made
    made.close()


def child(rig: LettersRig, output: Path, *arguments: str) -> Popen[bytes]:
    script = (
        f"import os, sys; os.environ.update({rig.env!r}); os.chdir({str(rig.folder)!r}); "
        f"sys.argv = ['millstream', 'dlq', *{list(arguments)!r}]; "
        "from millstream.operate.cli import main; main()"
    )
    return spawn([sys.executable, "-c", script], output=output)


@pytest.fixture
def many(rig: LettersRig) -> LettersRig:
    rig.set_aside(*rig.send(*(rig.module.Ordered(order_id=f"o-{n}") for n in range(LETTERS))))
    return rig


def assert_each_once(rig: LettersRig) -> None:
    handed = Counter(redrive.at for redrive in rig.handed_in())
    actions = Counter(tuple(action["origin"]) for action in rig.actions())
    assert handed == actions
    assert len(handed) == LETTERS
    assert set(handed.values()) == {1}


def test_a_bulk_redrive(many: LettersRig, tmp_path: Path):
    output = tmp_path / "output.log"
    kills = 0
    for goal in (10, 40, 70):
        # Small transactions, so that the kill falls between or into one of many.
        process = child(many, output, "redrive", "--all", "--rate", "40/s")
        wait_until(lambda goal=goal: len(many.handed_in()) >= goal, seconds=30, what=f"{goal} letters handed in")
        kills += process.poll() is None
        end(process, how=signal.SIGKILL)
        assert len(many.handed_in()) < LETTERS
    assert kills == 3, last_lines(output)
    process = child(many, output, "redrive", "--all")
    assert process.wait(40) == 0, last_lines(output)
    assert_each_once(many)


def test_the_service_that_redrives_by_rule(many: LettersRig, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "all"\nreason = "*"\nrate = "30/s"\n')
    output = tmp_path / "output.log"
    for goal in (10, 50):
        process = child(many, output, "serve", "--rules", str(rules))
        wait_until(lambda goal=goal: len(many.handed_in()) >= goal, seconds=40, what=f"{goal} letters handed in")
        assert process.poll() is None, last_lines(output)
        end(process, how=signal.SIGKILL)
        assert len(many.handed_in()) < LETTERS
    process = child(many, output, "serve", "--rules", str(rules))
    wait_until(lambda: len(many.handed_in()) >= LETTERS, seconds=60, what="the rest")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, last_lines(output)
    assert_each_once(many)


def test_two_at_once_take_turns_and_nothing_is_done_twice(rig: LettersRig):
    rig.set_aside(*(rig.order(f"o-{n}") for n in range(6)))
    anns, bobs = rig.office(), rig.office()
    letters = rig.letters()
    works = [list(redrives(office, letters, Limits())) for office in (anns, bobs)]
    with (
        Clerk(rig.kafka, rig.admin, rig.dlq, anns.audit, ANN) as ann,
        Clerk(rig.kafka, rig.admin, rig.dlq, bobs.audit, BOB) as bob,
    ):
        done = ann.do(works[0][:2])
        assert [one.mine for one in done] == [True, True]
        overlapping = bob.do(works[1][1:4])
        assert [one.mine for one in overlapping] == [False, True, True]
        assert overlapping[0].entry.by == "ann@desk"
        # Bob has fenced her; she begins again and finds what he did.
        assert [one.mine for one in ann.do(works[0])] == [True, True, False, False, True, True]
    assert len(rig.handed_in()) == len(rig.actions()) == 6


def test_a_transaction_that_somebody_left_open_is_waited_for(rig: LettersRig):
    """What an open transaction hides on the audit could have been done already."""
    rig.set_aside(rig.order("o-1"))
    office = rig.office()
    plans = list(redrives(office, rig.letters(), Limits()))
    rig.admin.ensure_topics([SPEC])
    hiding = rig.kafka.transactional_producer(f"{rig.name}.hiding")
    hiding.begin()
    hiding.produce(AUDIT, b"{}", b"not of ours", partition=0)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: list(carry_out(office, plans, ANN)))
        place = (AUDIT, 0)
        wait_until(
            lambda: rig.admin.end_offsets([place], "read_uncommitted") != rig.admin.end_offsets([place]),
            seconds=10,
            what="an open transaction on the audit",
        )
        assert not wait([done], 1.0).done
        hiding.abort()
        hiding.close()
        [one] = done.result(30)
    assert isinstance(one, Done)
    assert one.mine
    assert len(rig.handed_in()) == 1
