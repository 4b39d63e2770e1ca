"""Handing letters in again: to the failing group alone, each once, in order, and where nothing speaks against it."""

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.kafka import TopicSpec
from millstream.operate.dlq.audit import AUDIT, SPEC
from millstream.runtime.redrive import Action
from millstream.testing.child import wait_until

pytestmark = pytest.mark.slow


def test_a_redrive_is_the_event_itself_for_the_group_that_failed(rig: LettersRig):
    message = rig.order("o-1", 7)
    rig.set_aside(message, redrives=1)
    [row] = rig.call("list", "--json").rows
    answer = rig.call("redrive", row["id"], "--as", "ann", "--comment", "mended")
    assert answer.code == 0
    assert "1 done, 0 left" in answer.output
    [handed] = rig.handed_in()
    assert handed.at == (rig.orders, message.partition(), message.offset())
    assert (handed.key(), handed.value(), handed.headers()) == (message.key(), message.value(), message.headers())
    assert (handed.timestamp()[1], handed.action, handed.count) == (message.timestamp()[1], Action.HANDLE, 2)
    assert handed.message.partition() == message.partition()
    assert len(rig.records(rig.orders)) == 1, "nothing went to the topic that others read"
    [action] = rig.actions()
    assert (action["dead_letter"], action["action"], action["by"], action["comment"]) == (
        row["id"],
        "redrive",
        "ann",
        "mended",
    )
    assert (action["command"], action["group"], action["redrives"]) == ("millstream dlq redrive", rig.group, 2)
    [after] = rig.call("list", "--state", "redriven", "--json").rows
    assert after["audit"]["by"] == "ann"
    assert rig.call("list", "--json").rows == []


def test_a_second_redrive_is_refused_with_who_did_it_and_when(rig: LettersRig):
    rig.set_aside(rig.order("o-1"))
    [letter] = rig.letters()
    rig.call("redrive", str(letter.id), "--as", "ann")
    for command in ("redrive", "discard"):
        again = rig.call(command, str(letter.id), "--as", "bob")
        assert again.code == 1 or again.refused
        assert "redriven by ann at 20" in again.refused
    assert len(rig.handed_in()) == len(rig.actions()) == 1


def test_ids_are_all_handed_in_or_none(rig: LettersRig):
    rig.set_aside(rig.order("o-1"), rig.order("o-2"))
    first, second = (str(letter.id) for letter in rig.letters())
    rig.call("redrive", first)
    assert "nothing was written" in rig.call("redrive", first, second).refused
    assert len(rig.handed_in()) == 1


def test_a_dry_run_writes_nothing(rig: LettersRig):
    rig.set_aside(rig.order("o-1"))
    answer = rig.call("redrive", "--all", "--dry-run")
    assert "1 would be done" in answer.output
    assert rig.redrives in answer.output
    assert rig.handed_in() == rig.actions() == []


def test_what_later_events_of_the_key_overtook_is_refused_with_their_offsets(rig: LettersRig):
    first, other, later = rig.order("o-1"), rig.order("o-1"), rig.order("o-1")
    rig.set_aside(first, other)
    letter, sibling = rig.letters()
    refused = rig.call("redrive", str(letter.id)).refused
    assert "1 later events" in refused, "the one that was set aside, too, has overtaken nothing"
    assert f"{rig.orders}[{first.partition()}] at {later.offset()}." in refused
    assert "2 left" in rig.call("redrive", "--all").output
    assert rig.handed_in() == []
    assert rig.call("redrive", "--all", "--allow-reorder").code == 0
    assert [handed.offset() for handed in rig.handed_in()] == [first.offset(), other.offset()]
    assert sibling.at == (rig.orders, other.partition(), other.offset())


def test_what_the_service_has_no_handler_for_overtakes_nothing(rig: LettersRig):
    first = rig.order("o-1")
    rig.send(rig.module.Cancelled(order_id="o-1"))
    rig.set_aside(first)
    [letter] = rig.letters()
    assert "1 would be done" in rig.call("redrive", "--all", "--dry-run").output
    [nameless] = rig.send(raw=[("o-1", first.value() or b"")])
    assert f"1 later events of its key overtook it: {rig.orders}[{first.partition()}] at {nameless.offset()}." in (
        rig.call("redrive", str(letter.id)).refused
    ), "a record that does not say its class may have been handled"


def test_one_whose_later_sibling_was_handed_in_is_overtaken_by_it(rig: LettersRig):
    rig.set_aside(rig.order("o-1"), second := rig.order("o-1"))
    letters = rig.letters()
    assert rig.call("redrive", str(letters[1].id)).code == 0
    assert f"at {second.offset()}." in rig.call("redrive", str(letters[0].id)).refused


def test_letters_of_a_key_are_handed_in_in_the_order_of_their_events(rig: LettersRig):
    messages = [rig.order("o-1") for _ in range(4)]
    rig.set_aside(*(messages[at] for at in (2, 0, 3, 1)))
    rig.call("redrive", "--all")
    assert [handed.offset() for handed in rig.handed_in()] == [message.offset() for message in messages]


def test_more_letters_than_fit_into_one_transaction_keep_the_order_too(
    rig: LettersRig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("millstream.operate.dlq.bulk.AT_ONCE", 3)
    orders = {name: [rig.order(name) for _ in range(3)] for name in ("o-1", "o-2")}
    others = [rig.order(f"x-{n}") for n in range(8)]
    rig.set_aside(orders["o-1"][1], *others[:4], orders["o-2"][2], orders["o-1"][2], orders["o-2"][1])
    # The first ones of their keys: they have failed again.
    rig.set_aside(*others[4:], orders["o-1"][0], orders["o-2"][0], redrives=1)
    assert "14 done, 0 left" in rig.call("redrive", "--all").output
    for name, messages in orders.items():
        handed = [handed.offset() for handed in rig.handed_in() if handed.key() == name.encode()]
        assert handed == [message.offset() for message in messages]


def test_parked_letters_and_those_without_a_key_are_never_overtaken(rig: LettersRig):
    rig.set_aside(rig.order("o-1"), parked=True)
    rig.order("o-1")
    producer = rig.kafka.producer()
    producer.produce(rig.orders, b"no key", None, partition=0)
    producer.produce(rig.orders, b"no key", None, partition=0)
    producer.flush()
    producer.close()
    rig.set_aside(next(m for m in rig.records(rig.orders) if m.key() is None))
    assert "2 done, 0 left" in rig.call("redrive", "--all").output


def test_what_was_handed_in_too_often_is_left(rig: LettersRig):
    rig.set_aside(rig.order("o-1"), redrives=3)
    assert "handed in 3 times" in rig.call("redrive", "--all").output
    assert rig.handed_in() == []
    rig.call("redrive", "--all", "--max-redrives", "4")
    assert [handed.count for handed in rig.handed_in()] == [4]


def test_most_and_rate_bound_a_redrive(rig: LettersRig):
    rig.set_aside(*(rig.order(f"o-{n}") for n in range(5)))
    answer = rig.call("redrive", "--all", "--limit", "3", "--rate", "200/s")
    assert "3 are done" in answer.output
    assert len(rig.handed_in()) == 3
    assert rig.call("redrive", "--all").code == 0
    assert len(rig.handed_in()) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive"], "Which letters?"),
        (["discard"], "Which letters?"),
        (["redrive", "{id}", "--all"], "not two of them"),
        (["redrive", "--all", "--key", "o-1"], "leave one of them out"),
        (["redrive", "--all", "--rate", "fast"], "10/s"),
        (["redrive", "--topic", "nowhere"], "There is no topic 'nowhere.dlq'"),
        (["redrive", "--service", "nobody"], "has no service 'nobody'"),
    ],
)
def test_bad_use_is_refused_before_anything_runs(rig: LettersRig, arguments: list[str], said: str):
    rig.set_aside(rig.order("o-1"))
    [letter] = rig.letters()
    assert said in rig.call(*(argument.format(id=letter.id) for argument in arguments)).refused
    assert rig.handed_in() == rig.actions() == []


@pytest.mark.parametrize(
    ("said", "remedy"), [({"group": None}, "names no consumer group"), ({"group": "others.kafka"}, "--system")]
)
def test_a_letter_that_has_nowhere_to_go_is_refused_and_can_be_discarded(
    rig: LettersRig, said: dict[str, str | None], remedy: str
):
    rig.set_aside(rig.order("o-1"), **said)
    [letter] = rig.letters()
    assert remedy in rig.call("redrive", str(letter.id)).refused
    assert rig.call("discard", str(letter.id)).code == 0


def test_discarding_says_so_and_lets_a_parked_key_go_on(rig: LettersRig):
    rig.set_aside(rig.order("o-1"))
    rig.set_aside(parked := rig.order("o-2"), parked=True)
    assert rig.call("discard", "--all", "--comment", "tests").code == 0
    [handed] = rig.handed_in()
    assert (handed.key(), handed.action, handed.offset()) == (b"o-2", Action.DISCARD, parked.offset())
    assert [(action["action"], action["comment"]) for action in rig.actions()] == [("discard", "tests")] * 2
    assert {row["state"] for row in rig.call("list", "--state", "all", "--json").rows} == {"discarded"}


def test_what_somebody_else_put_into_the_audit_says_nothing(rig: LettersRig):
    rig.set_aside(rig.order("o-1"))
    [letter] = rig.letters()
    rig.admin.ensure_topics([SPEC])
    producer = rig.kafka.producer()
    for value in (b"not JSON", b"{}", b"", b"\xff"):
        producer.produce(AUDIT, value, str(letter.id).encode(), partition=0)
    producer.flush()
    producer.close()
    assert rig.call("redrive", str(letter.id)).code == 0
    assert len(rig.handed_in()) == 1


def test_what_was_done_to_letters_of_a_topic_that_is_no_more_says_nothing_of_those_of_the_new_one(rig: LettersRig):
    rig.set_aside(rig.order("o-1"))
    [first] = rig.letters()
    rig.call("redrive", str(first.id))
    partitions = {rig.dlq: rig.admin.topics()[rig.dlq].partitions}
    rig.admin.delete_topics([rig.dlq])
    wait_until(lambda: rig.dlq not in rig.admin.topic_ids([rig.dlq]), seconds=20, what="the topic to be gone")
    rig.admin.ensure_topics([TopicSpec(rig.dlq, partitions[rig.dlq])])
    rig.set_aside(rig.order("o-1"))
    [second] = rig.letters()
    assert second.id == first.id, "it lies where the other lay"
    [row] = rig.call("list", "--json").rows
    assert (row["id"], row["state"]) == (str(second.id), "open")
    assert rig.call("redrive", str(second.id), "--allow-reorder").code == 0
    assert len(rig.handed_in()) == len(rig.actions()) == 2
