"""Rules: the file is checked whole before anything runs; then each rule acts on each of its dead letters once."""

import pytest
from prometheus_client import REGISTRY
from tests.operate.dlq.rig import DlqRig
from tests.operate.dlq.serving import serving, wait_for_actions

from millstream.declare import hours
from millstream.errors import Rejected
from millstream.kafka import TopicSpec
from millstream.operate.assembly import topics_of
from millstream.runtime.records.redrive import Action
from millstream.testing.child import wait_until

pytestmark = pytest.mark.slow


def refused(rig: DlqRig, rule: str) -> float:
    labels = {"rule": rule, "service": rig.service.name, "topic": rig.orders}
    return sum(
        REGISTRY.get_sample_value("millstream_redrives_refused_total", {**labels, "reason": reason}) or 0.0
        for reason in ("superseded", "too_often", "nowhere")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one at least"),
        ("rate = 1", "[[rule]] tables, not rate"),
        ("[[rule]", "Expected"),
        ('# mine\nrule = ["x"]', "rules.toml:2: rule = 'x': a rule is a table"),
        ('# mine\nrule = [{name = "a", reason = "x", limit = 0}]', "rules.toml:2: limit = 0"),
        ('[[rule]]\nname = "a"\n', "rules.toml:1: rule 'a' would take every dead letter"),
        ('[[rule]]\nreason = "x"\n', "rules.toml:1: every rule needs a unique name"),
        ('[[rule]]\nname = "a"\nreason = "x"\nraet = "1/s"\n', "rules.toml:4: a rule has no 'raet'"),
        ('[[rule]]\nname = "a"\nreason = "x"\nrate = "quick"\n', "rules.toml:4: rate: 'quick' is no rate"),
        ('[[rule]]\nname = "a"\nreason = "x"\nwait = "soon"\n', "rules.toml:4: wait: 'soon' is no duration"),
        ('[[rule]]\nname = "a"\nreason = "x"\nlimit = 0\n', "rules.toml:4: limit = 0: it is 1 at least"),
        ('[[rule]]\nname = "a"\nreason = "x"\nlimit = true\n', "rules.toml:4: limit = True: it must be a whole number"),
        ('[[rule]]\nname = "a"\nreason = "x"\ngive-up = "cry"\n', "rules.toml:4: give-up = 'cry': it is \"leave\""),
        ('[[rule]]\nname = "a"\nservice = "nobody"\n', "rules.toml:3: "),
        ('[[rule]]\nname = "a"\ntopic = "nowhere"\n', "rules.toml:3: "),
        ('[[rule]]\nname = "a"\ntype = "Nothing"\n', "carries a class 'Nothing'"),
        (
            '[[rule]]\nname = "a"\nreason = "x"\nwait = "2h"\nyounger-than = "1h"\n',
            "rules.toml:5: rule 'a' can take nothing",
        ),
        (
            '[[rule]]\nname = "a"\nreason = "x"\n[[rule]]\nname = "a"\nreason = "y"\n',
            "rules.toml:5: there is a rule 'a' above",
        ),
    ],
)
def test_a_rule_that_cannot_work_is_named_with_its_line(rig: DlqRig, text: str, said: str):
    path = rig.folder / "rules.toml"
    path.write_text(text)
    answer = rig.call("serve", "--rules", str(path))
    assert said in answer.refused


def test_all_mistakes_are_reported_at_once_and_check_only_checks(rig: DlqRig):
    path = rig.folder / "rules.toml"
    path.write_text('[[rule]]\nname = "a"\nreason = "x"\nlimit = 0\n\n[[rule]]\nname = "B"\nreason = "x"\n')
    assert rig.call("serve", "--rules", str(path)).refused.count("rules.toml:") == 2
    path.write_text('[[rule]]\nname = "a"\nreason = "x"\n')
    assert "1 rules, no mistakes" in rig.call("serve", "--rules", str(path), "--check").output


def test_what_a_rule_takes_is_redriven_once_and_the_rest_is_left(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    rig.dead_letter(rig.order("o-2"), error=Rejected("too_many"))
    text = f'[[rule]]\nname = "{rig.name}"\nerror = "TimeoutError"\nservice = "{rig.service.name}"\n'
    with serving(rig, text):
        wait_for_actions(rig, 1)
        rig.dead_letter(rig.order("o-3"))
        wait_for_actions(rig, 2)
    with serving(rig, text):
        rig.dead_letter(rig.order("o-4"))
        wait_for_actions(rig, 3)
    assert sorted(redriven.key() or b"" for redriven in rig.redriven()) == [b"o-1", b"o-3", b"o-4"]
    assert {action["command"] for action in rig.actions()} == {f"millstream dlq serve: {rig.name}"}
    labels = {"service": rig.service.name, "topic": rig.orders, "action": "redrive"}
    assert REGISTRY.get_sample_value("millstream_redrives_total", labels) == 3


def test_dead_letters_wait_as_long_as_the_rule_says_and_so_do_later_ones_of_their_key(rig: DlqRig):
    first, second = rig.order("o-1"), rig.order("o-1")
    rig.dead_letter(first, error=TimeoutError("no answer"))
    rig.dead_letter(second, error=Rejected("quick"))
    text = (
        '[[rule]]\nname = "slow"\nerror = "TimeoutError"\nwait = "3s"\n'
        '[[rule]]\nname = "quick"\nreason = "quick"\n[[rule]]\nname = "other"\nreason = "other"\n'
    )
    with serving(rig, text):
        rig.dead_letter(rig.order("o-2"), error=Rejected("other"))
        wait_for_actions(rig, 3)
    keys = [(redriven.key(), redriven.offset()) for redriven in rig.redriven() if redriven.key() == b"o-1"]
    assert keys == [(b"o-1", first.offset()), (b"o-1", second.offset())]
    failed = {dead_letter.at: dead_letter.last_failed for dead_letter in rig.dead_letters()}
    from datetime import datetime

    for action in rig.actions():
        if "slow" in action["command"]:
            failure = failed[tuple(action["origin"])]
            assert failure is not None
            assert (datetime.fromisoformat(action["at"]) - failure).total_seconds() >= 3


def test_later_events_of_a_key_wait_for_one_that_failed_again(rig: DlqRig):
    first, second = rig.order("o-1"), rig.order("o-1")
    rig.dead_letter(second, ago=hours(2))
    rig.dead_letter(first, redrives=1)
    rig.dead_letter(rig.order("o-2"), ago=hours(2))
    text = f'[[rule]]\nname = "{rig.name}"\nerror = "TimeoutError"\nwait = "1h"\n'
    with serving(rig, text):
        wait_for_actions(rig, 1)
        # One round later.
        rig.dead_letter(rig.order("o-3"), ago=hours(2))
        wait_for_actions(rig, 2)
    assert sorted(redriven.key() or b"" for redriven in rig.redriven()) == [b"o-2", b"o-3"]


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["10/s", "1/s"])
def test_events_of_a_key_are_redriven_in_order_whatever_rules_take_them(rig: DlqRig, rate: str):
    messages = [rig.order("o-1") for _ in range(4)]
    for at in (3, 1, 0, 2):
        rig.dead_letter(messages[at], error=Rejected("odd" if at % 2 else "even"))
    text = f'[[rule]]\nname = "odd"\nreason = "odd"\nrate = "{rate}"\n[[rule]]\nname = "even"\nreason = "even"\n'
    with serving(rig, text):
        wait_for_actions(rig, 4)
    assert [redriven.offset() for redriven in rig.redriven()] == [message.offset() for message in messages]


def test_dead_letters_wait_for_a_service_that_has_not_created_its_redrive_topic_yet(rig: DlqRig):
    rig.admin.delete_topics([rig.redrives])
    rig.dead_letter(rig.order("o-1"))
    rig.dead_letter(rig.order("o-2"), error=Rejected("marker"), group="others.kafka")
    text = f'[[rule]]\nname = "{rig.name}"\nerror = "TimeoutError"\n[[rule]]\nname = "marker"\nreason = "marker"\n'
    with serving(rig, text):
        wait_until(lambda: refused(rig, "marker") == 1, seconds=60, what="the dead letter to be left")
        assert rig.actions() == []
        rig.admin.ensure_topics([spec for spec in topics_of(rig.service) if isinstance(spec, TopicSpec)])
        wait_for_actions(rig, 1)
    assert [redriven.key() for redriven in rig.redriven()] == [b"o-1"]
    assert refused(rig, rig.name) == 0


@pytest.mark.slow
def test_more_than_memory_may_hold_are_read_later(rig: DlqRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millstream.operate.dlq.serve.MAX_WAITING", 2)
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(7)))
    with serving(rig, f'[[rule]]\nname = "{rig.name}"\nreason = "*"\n'):
        wait_for_actions(rig, 7)
    assert {redriven.key() for redriven in rig.redriven()} == {f"o-{n}".encode() for n in range(7)}


def test_a_dead_letter_that_failed_too_often_is_discarded_or_left(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), error=Rejected("hopeless"), redrives=2)
    rig.dead_letter(rig.order("o-2"), error=Rejected("hopeful"), redrives=2)
    text = (
        '[[rule]]\nname = "hopeless"\nreason = "hopeless"\nmax-redrives = 2\ngive-up = "discard"\n'
        '[[rule]]\nname = "hopeful"\nreason = "hopeful"\nmax-redrives = 2\n'
    )
    with serving(rig, text):
        wait_for_actions(rig, 1)
        wait_until(lambda: refused(rig, "hopeful") == 1, seconds=60, what="the dead letter to be left")
    [action] = rig.actions()
    assert (action["action"], action["origin"][0], action["command"]) == (
        "discard",
        rig.orders,
        "millstream dlq serve: hopeless",
    )
    assert rig.redriven() == []


def test_superseded_dead_letters_are_left_for_an_operator_unless_the_rule_allows_reordering(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"), error=Rejected("careful"))
    rig.dead_letter(rig.order("o-2"), error=Rejected("careless"))
    rig.order("o-1"), rig.order("o-2")
    text = (
        '[[rule]]\nname = "careful"\nreason = "careful"\n'
        '[[rule]]\nname = "careless"\nreason = "careless"\nallow-reorder = true\n'
    )
    with serving(rig, text):
        wait_until(lambda: refused(rig, "careful") == 1, seconds=60, what="the dead letter to be left")
        wait_for_actions(rig, 1)
    assert [(redriven.key(), redriven.action) for redriven in rig.redriven()] == [(b"o-2", Action.HANDLE)]


@pytest.mark.slow
def test_the_hourly_cap_holds_over_restarts(rig: DlqRig):
    rig.dead_letter(*(rig.order(f"o-{n}") for n in range(4)))
    text = f'[[rule]]\nname = "{rig.name}-capped"\nreason = "*"\nlimit = 2\n'
    with serving(rig, text):
        wait_for_actions(rig, 2)
    other = f'{text}[[rule]]\nname = "marker"\nreason = "marker"\n'.replace('reason = "*"', 'reason = "TimeoutError"')
    with serving(rig, other):
        rig.dead_letter(rig.order("o-9"), error=Rejected("marker"))
        wait_for_actions(rig, 3)
    assert sum("capped" in action["command"] for action in rig.actions()) == 2
