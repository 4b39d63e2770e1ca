"""Redrives: to the failing group alone, each once, in order, and refused where a reason speaks against it."""

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.kafka import TopicSpec
from millstream.operate.dlq.audit import AUDIT, SPEC
from millstream.runtime.records.redrive import Action
from millstream.testing.child import wait_until

pytestmark = pytest.mark.slow


def test_a_redrive_is_the_event_itself_for_the_group_that_failed(rig: DlqRig):
    message = rig.order("o-1", 7)
    rig.dead_letter(message, redrives=1)
    [row] = rig.call("list", "--json").rows
    answer = rig.call("redrive", row["id"], "--as", "ann", "--comment", "repaired")
    assert answer.code == 0
    assert "1 done, 0 left" in answer.output
    [redriven] = rig.redriven()
    assert redriven.at == (rig.orders, message.partition(), message.offset())
    assert (redriven.key(), redriven.value(), redriven.headers()) == (message.key(), message.value(), message.headers())
    assert (redriven.timestamp()[1], redriven.action, redriven.count) == (message.timestamp()[1], Action.HANDLE, 2)
    assert redriven.message.partition() == message.partition()
    assert len(rig.records(rig.orders)) == 1, "nothing went to the topic that others read"
    [action] = rig.actions()
    assert (action["dead_letter"], action["action"], action["by"], action["comment"]) == (
        row["id"],
        "redrive",
        "ann",
        "repaired",
    )
    assert (action["command"], action["group"], action["redrives"]) == ("millstream dlq redrive", rig.group, 2)
    [after] = rig.call("list", "--state", "redriven", "--json").rows
    assert after["audit"]["by"] == "ann"
    assert rig.call("list", "--json").rows == []


def test_a_second_redrive_is_refused_with_who_did_it_and_when(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    [dead_letter] = rig.dead_letters()
    rig.call("redrive", str(dead_letter.id), "--as", "ann")
    for command in ("redrive", "discard"):
        again = rig.call(command, str(dead_letter.id), "--as", "bob")
        assert again.code == 1 or again.refused
        assert "redriven by ann at 20" in again.refused
    assert len(rig.redriven()) == len(rig.actions()) == 1


def test_ids_are_all_redriven_or_none(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), rig.order("o-2"))
    first, second = (str(dead_letter.id) for dead_letter in rig.dead_letters())
    rig.call("redrive", first)
    assert "nothing was written" in rig.call("redrive", first, second).refused
    assert len(rig.redriven()) == 1


def test_a_dry_run_writes_nothing(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    answer = rig.call("redrive", "--all", "--dry-run")
    assert "1 would be done" in answer.output
    assert rig.redrives in answer.output
    assert rig.redriven() == rig.actions() == []


def test_a_superseded_dead_letter_is_refused_with_the_offsets_of_the_later_events(rig: DlqRig):
    first, other, later = rig.order("o-1"), rig.order("o-1"), rig.order("o-1")
    rig.dead_letter(first, other)
    dead_letter, sibling = rig.dead_letters()
    refused = rig.call("redrive", str(dead_letter.id)).refused
    assert "1 later events" in refused, "the one that was dead-lettered, too, supersedes nothing"
    assert f"{rig.orders}[{first.partition()}] at {later.offset()}." in refused
    assert "2 left" in rig.call("redrive", "--all").output
    assert rig.redriven() == []
    assert rig.call("redrive", "--all", "--allow-reorder").code == 0
    assert [redriven.offset() for redriven in rig.redriven()] == [first.offset(), other.offset()]
    assert sibling.at == (rig.orders, other.partition(), other.offset())


def test_events_that_the_service_has_no_handler_for_supersede_nothing(rig: DlqRig):
    first = rig.order("o-1")
    rig.send(rig.module.Cancelled(order_id="o-1"))
    rig.dead_letter(first)
    [dead_letter] = rig.dead_letters()
    assert "1 would be done" in rig.call("redrive", "--all", "--dry-run").output
    [nameless] = rig.send(raw=[("o-1", first.value() or b"")])
    assert f"1 later events of its key were handled: {rig.orders}[{first.partition()}] at {nameless.offset()}." in (
        rig.call("redrive", str(dead_letter.id)).refused
    ), "a record that does not say its class may have been handled"


def test_a_later_dead_letter_that_was_redriven_supersedes_the_earlier_one(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), second := rig.order("o-1"))
    dead_letters = rig.dead_letters()
    assert rig.call("redrive", str(dead_letters[1].id)).code == 0
    assert f"at {second.offset()}." in rig.call("redrive", str(dead_letters[0].id)).refused


def test_dead_letters_of_a_key_are_redriven_in_the_order_of_their_events(rig: DlqRig):
    messages = [rig.order("o-1") for _ in range(4)]
    rig.dead_letter(*(messages[at] for at in (2, 0, 3, 1)))
    rig.call("redrive", "--all")
    assert [redriven.offset() for redriven in rig.redriven()] == [message.offset() for message in messages]


def test_more_dead_letters_than_one_transaction_holds_keep_the_order_too(rig: DlqRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millstream.operate.dlq.bulk.BATCH", 3)
    orders = {name: [rig.order(name) for _ in range(3)] for name in ("o-1", "o-2")}
    others = [rig.order(f"x-{n}") for n in range(8)]
    rig.dead_letter(orders["o-1"][1], *others[:4], orders["o-2"][2], orders["o-1"][2], orders["o-2"][1])
    # The first ones of their keys: they have failed again.
    rig.dead_letter(*others[4:], orders["o-1"][0], orders["o-2"][0], redrives=1)
    assert "14 done, 0 left" in rig.call("redrive", "--all").output
    for name, messages in orders.items():
        redriven = [redriven.offset() for redriven in rig.redriven() if redriven.key() == name.encode()]
        assert redriven == [message.offset() for message in messages]


def test_parked_dead_letters_and_those_without_a_key_are_never_superseded(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), parked=True)
    rig.order("o-1")
    producer = rig.kafka.producer()
    producer.produce(rig.orders, b"no key", None, partition=0)
    producer.produce(rig.orders, b"no key", None, partition=0)
    producer.flush()
    producer.close()
    rig.dead_letter(next(m for m in rig.records(rig.orders) if m.key() is None))
    assert "2 done, 0 left" in rig.call("redrive", "--all").output


def test_what_was_redriven_too_often_is_left(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), redrives=3)
    assert "redriven 3 times" in rig.call("redrive", "--all").output
    assert rig.redriven() == []
    rig.call("redrive", "--all", "--max-redrives", "4")
    assert [redriven.count for redriven in rig.redriven()] == [4]


def test_limit_and_rate_bound_a_redrive(rig: DlqRig):
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(5)))
    answer = rig.call("redrive", "--all", "--limit", "3", "--rate", "200/s")
    assert "the limit of 3 is reached" in answer.output
    assert len(rig.redriven()) == 3
    assert rig.call("redrive", "--all").code == 0
    assert len(rig.redriven()) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive"], "Which dead letters?"),
        (["discard"], "Which dead letters?"),
        (["redrive", "{id}", "--all"], "not two of them"),
        (["redrive", "--all", "--key", "o-1"], "leave one of them out"),
        (["redrive", "--all", "--rate", "fast"], "10/s"),
        (["redrive", "--topic", "nowhere"], "There is no topic 'nowhere.dlq'"),
        (["redrive", "--service", "nobody"], "has no service 'nobody'"),
    ],
)
def test_bad_use_is_refused_before_anything_runs(rig: DlqRig, arguments: list[str], said: str):
    rig.dead_letter(rig.order("o-1"))
    [dead_letter] = rig.dead_letters()
    assert said in rig.call(*(argument.format(id=dead_letter.id) for argument in arguments)).refused
    assert rig.redriven() == rig.actions() == []


@pytest.mark.parametrize(
    ("said", "remedy"), [({"group": None}, "names no consumer group"), ({"group": "others.kafka"}, "--system")]
)
def test_a_letter_that_has_nowhere_to_go_is_refused_and_can_be_discarded(
    rig: DlqRig, said: dict[str, str | None], remedy: str
):
    rig.dead_letter(rig.order("o-1"), **said)
    [dead_letter] = rig.dead_letters()
    assert remedy in rig.call("redrive", str(dead_letter.id)).refused
    assert rig.call("discard", str(dead_letter.id)).code == 0


def test_discarding_is_audited_and_releases_a_parked_key(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    rig.dead_letter(parked := rig.order("o-2"), parked=True)
    assert rig.call("discard", "--all", "--comment", "tests").code == 0
    [redriven] = rig.redriven()
    assert (redriven.key(), redriven.action, redriven.offset()) == (b"o-2", Action.DISCARD, parked.offset())
    assert [(action["action"], action["comment"]) for action in rig.actions()] == [("discard", "tests")] * 2
    assert {row["state"] for row in rig.call("list", "--state", "all", "--json").rows} == {"discarded"}


def test_records_of_others_in_the_audit_are_ignored(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    [dead_letter] = rig.dead_letters()
    rig.admin.ensure_topics([SPEC])
    producer = rig.kafka.producer()
    for value in (b"not JSON", b"{}", b"", b"\xff"):
        producer.produce(AUDIT, value, str(dead_letter.id).encode(), partition=0)
    producer.flush()
    producer.close()
    assert rig.call("redrive", str(dead_letter.id)).code == 0
    assert len(rig.redriven()) == 1


def test_actions_on_a_topic_that_was_deleted_say_nothing_of_one_created_again(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    [first] = rig.dead_letters()
    rig.call("redrive", str(first.id))
    partitions = {rig.dlq: rig.admin.topics()[rig.dlq].partitions}
    rig.admin.delete_topics([rig.dlq])
    wait_until(lambda: rig.dlq not in rig.admin.topic_ids([rig.dlq]), seconds=60, what="the topic to be gone")
    rig.admin.ensure_topics([TopicSpec(rig.dlq, partitions[rig.dlq])])
    rig.dead_letter(rig.order("o-1"))
    [second] = rig.dead_letters()
    assert second.id == first.id, "it has the id of the first"
    [row] = rig.call("list", "--json").rows
    assert (row["id"], row["state"]) == (str(second.id), "open")
    assert rig.call("redrive", str(second.id), "--allow-reorder").code == 0
    assert len(rig.redriven()) == len(rig.actions()) == 2
