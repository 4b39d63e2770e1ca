"""Later events that supersede a dead letter are looked up when it is redriven, not only when that is planned."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.kafka import Message
from millstream.operate.dlq.bulk import Limits, execute, redrives
from millstream.operate.dlq.context import DlqContext
from millstream.operate.dlq.dead_letter import DeadLetter
from millstream.operate.dlq.executor import Actor, Done
from millstream.operate.dlq.later_events import LaterEvents
from millstream.operate.dlq.plans import Plan, Refused, edit

pytestmark = pytest.mark.slow

ANN = Actor("ann@desk", "test")


class Counting:
    """A cluster that counts what is read of each topic."""

    def __init__(self, kafka: Any) -> None:
        self._kafka = kafka
        self.read = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    def read_to_end(self, topic: str, *arguments: Any, **options: Any) -> Iterator[list[Message]]:
        for batch in self._kafka.read_to_end(topic, *arguments, **options):
            self.read[topic] += len(batch)
            yield batch


def counting(rig: DlqRig) -> tuple[DlqContext, Counter[str]]:
    context, kafka = rig.context(), Counting(rig.kafka)
    return DlqContext(kafka, context.admin, context.origins, context.audit, context.partitions), kafka.read


def offsets(rig: DlqRig, later_events: LaterEvents, dead_letters: list[DeadLetter]) -> dict[str, tuple[int, ...]]:
    found = later_events.superseding(dead_letters)
    return {
        (dead_letter.key or b"").decode(): found[dead_letter.id].first
        for dead_letter in dead_letters
        if dead_letter.id in found
    }


def test_what_is_superseded_between_the_transactions_of_a_slow_redrive_is_left(
    rig: DlqRig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("millstream.operate.dlq.bulk.BATCH", 1)
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(3)))
    context = rig.context()
    results = execute(context, list(redrives(context, rig.dead_letters(), Limits())), ANN)
    first = next(results)
    assert isinstance(first, Done)
    left = {b"o-0", b"o-1", b"o-2"} - {first.plan.dead_letter.key}
    late = rig.order(min(left).decode())
    found = {result.dead_letter.key: result for result in results if isinstance(result, Refused)}
    assert found.keys() == {min(left)}
    assert f"[{late.partition()}] at {late.offset()}." in found[min(left)].detail
    assert {redriven.key() for redriven in rig.redriven()} == {first.plan.dead_letter.key, max(left)}


@pytest.mark.parametrize("allowed", [False, True])
def test_what_is_superseded_while_it_is_edited_is_left(rig: DlqRig, allowed: bool):
    rig.dead_letter(rig.order("o-1"))
    context = rig.context()
    [plan] = redrives(context, rig.dead_letters(), Limits(allow_reorder=allowed))
    assert isinstance(plan, Plan)
    rig.order("o-1")
    dead_letter = plan.dead_letter
    edited = edit(plan, dead_letter.value or b"", dead_letter.headers, ("quantity",))
    [result] = execute(context, [edited], ANN)
    assert isinstance(result, Done) is allowed
    assert len(rig.redriven()) == len(rig.actions()) == allowed


def test_only_what_was_superseded_is_left_out_of_a_transaction(rig: DlqRig):
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(3)))
    context = rig.context()
    plans = list(redrives(context, rig.dead_letters(), Limits()))
    rig.order("o-1")
    results = list(execute(context, plans, ANN))
    assert [isinstance(result, Done) for result in results] == [plan.dead_letter.key != b"o-1" for plan in plans]
    assert {redriven.key() for redriven in rig.redriven()} == {b"o-0", b"o-2"}


def test_later_events_are_read_once_however_often_they_are_asked_for(rig: DlqRig):
    messages = rig.send(*(rig.module.Ordered(order_id=f"o-{n}") for n in range(50)))
    rig.dead_letter(*messages)
    context, read = counting(rig)
    dead_letters, later_events = rig.dead_letters(), LaterEvents(context)
    assert offsets(rig, later_events, dead_letters) == {}
    assert read[rig.orders] <= 50
    read.clear()
    assert offsets(rig, later_events, dead_letters[:3]) == {}
    assert read == {}
    key = (dead_letters[7].key or b"").decode()
    late = [rig.order(key).offset(), rig.order(key).offset()]
    assert offsets(rig, later_events, dead_letters) == {key: tuple(late)}
    assert offsets(rig, later_events, dead_letters[7:8]) == {key: tuple(late)}
    assert read[rig.orders] == 2
    read.clear()
    rig.dead_letter(next(message for message in rig.records(rig.orders) if message.offset() == late[0] and
                       message.key() == key.encode()))  # fmt: skip
    assert offsets(rig, later_events, dead_letters) == {key: (late[1],)}
    assert read == {rig.dlq: 1}, "a later event that is dead-lettered is noticed, too"


def test_later_events_of_a_dead_letter_that_is_written_after_them_are_found(rig: DlqRig):
    first, second, third = (rig.order("o-1") for _ in range(3))
    rig.dead_letter(second)
    later_events = LaterEvents(rig.context())
    assert offsets(rig, later_events, rig.dead_letters()) == {"o-1": (third.offset(),)}
    rig.dead_letter(first)
    dead_letters = rig.dead_letters()
    assert offsets(rig, later_events, dead_letters[1:]) == {"o-1": (third.offset(),)}, "the second waits itself"
    later_events.retain(set())
    assert offsets(rig, later_events, dead_letters) == {"o-1": (third.offset(),)}
