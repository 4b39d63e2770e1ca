"""What rules do to requests, and how often."""

import pytest
from tests.local.faults.conftest import Desk

from millstream.local.faults.fault import BadFault, Fault


def test_without_rules_nothing_is_different(desk: Desk):
    desk.produce("orders")
    assert desk.end_of("orders") == 1


def test_a_rule_strikes_so_often_and_lets_the_first_ones_pass(desk: Desk):
    rule = desk.rules.drop("Produce", skip=1, times=2)
    for _ in range(5):
        desk.send("produce", 9, acks=-1)
    assert (len(desk.answers), rule.seen, rule.hits) == (3, 5, 2)
    rule.remove()
    rule.remove()
    assert not desk.rules.active


def test_a_rule_is_for_its_client_alone(desk: Desk):
    with desk.rules.drop(client_id="another") as others, desk.rules.observe(client_id="c") as ours:
        desk.ask("heartbeat", 3, group_id="g")
    assert (others.hits, ours.hits) == (0, 1)


def test_the_first_rule_that_fits_strikes_and_observers_see_it_all_the_same(desk: Desk):
    with (
        desk.rules.close("Heartbeat", group="g") as first,
        desk.rules.drop("Heartbeat") as second,
        desk.rules.observe() as seen,
    ):
        desk.send("heartbeat", 3, group_id="g")
    assert (first.hits, second.hits, seen.hits, desk.hang_ups) == (1, 0, 0, 1)


def test_an_observer_tells_what_it_saw(desk: Desk):
    with desk.rules.observe("OffsetCommit", topic="orders") as rule:
        desk.ask("offset_commit", 8, group_id="g", topics=[{"name": "orders", "partitions": [{"partition_index": 0}]}])
    assert list(rule.requests) == [
        {
            "api": "OffsetCommit", "version": 8, "client_id": "c",
            "topics": ["orders"], "groups": ["g"], "transactional_ids": [],
        }
    ]  # fmt: skip


def test_what_is_dropped_is_neither_done_nor_answered(desk: Desk):
    with desk.rules.drop("Produce"), pytest.raises(ValueError, match="0"):
        desk.produce("orders")
    assert (desk.end_of("orders"), desk.hang_ups) == (0, 0)


@pytest.mark.parametrize(("keep_open", "hang_ups"), [(False, 1), (True, 0)])
def test_a_lost_response_leaves_the_write(desk: Desk, keep_open: bool, hang_ups: int):
    with desk.rules.lose_response("Produce", keep_open=keep_open), pytest.raises(ValueError, match="0"):
        desk.produce("orders")
    assert (desk.end_of("orders"), desk.hang_ups, desk.answers) == (1, hang_ups, [])


@pytest.mark.parametrize(("when", "written"), [("before", 0), ("after", 1)])
def test_a_crash_comes_before_or_after_the_write(desk: Desk, when: str, written: int):
    with desk.rules.crash("Produce", when), pytest.raises(ValueError, match="0"):  # type: ignore[arg-type]
        desk.produce("orders")
    assert (desk.deaths, desk.end_of("orders"), desk.answers) == (1, written, [])


@pytest.mark.parametrize(("when", "written"), [("before", 0), ("after", 1)])
def test_a_delay_is_in_the_brokers_time(desk: Desk, when: str, written: int):
    with desk.rules.delay("Produce", seconds=2, when=when), pytest.raises(ValueError, match="0"):  # type: ignore[arg-type]
        desk.produce("orders")
    desk.advance(1.9)
    assert (desk.answers, desk.end_of("orders")) == ([], written)
    desk.advance(0.2)
    assert (len(desk.answers), desk.end_of("orders")) == (1, 1)


def test_nothing_is_done_for_a_client_that_left_during_its_delay(desk: Desk):
    with desk.rules.delay("Produce", seconds=2), pytest.raises(ValueError, match="0"):
        desk.produce("orders")
    desk.session.close()
    desk.advance(3)
    assert (desk.answers, desk.end_of("orders")) == ([], 0)


def test_listeners_hear_of_every_hit(desk: Desk):
    heard: list[int] = []
    rule = desk.rules.observe("Heartbeat")
    rule.on_hit.add(lambda: heard.append(rule.hits))
    for _ in range(2):
        desk.ask("heartbeat", 3, group_id="g")
    assert heard == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "place", "remedy"),
    [
        ({"do": "explode"}, "do", "lose_response"),
        ({}, "do", "missing"),
        ({"do": "drop", "topics": "t"}, "topics", "topic"),
        ({"do": "drop", "times": 0}, "times", "from 1"),
        ({"do": "drop", "skip": True}, "skip", "whole number"),
        ({"do": "drop", "topic": 7}, "topic", "string"),
        ({"do": "delay", "seconds": float("nan")}, "seconds", "number"),
        ({"do": "crash", "when": "during"}, "when", '"before"'),
        ({"do": "lose_response", "keep_open": 1}, "keep_open", "true"),
        ({"do": "error", "api": "Produce"}, "error", "NOT_ENOUGH_REPLICAS"),
        ([], "fault", "object"),
    ],
)
def test_a_fault_that_cannot_be_says_what_it_may_be(wrong: object, place: str, remedy: str):
    with pytest.raises(BadFault, match=remedy) as refused:
        Fault.from_json(wrong)
    assert refused.value.place == place


def test_names_that_kafka_does_not_have_are_refused(desk: Desk):
    with pytest.raises(BadFault, match="Produce\\?"):
        desk.rules.drop("produce")
    with pytest.raises(BadFault, match="NOT_ENOUGH_REPLICAS\\?"):
        desk.rules.error("Produce", "NOT_ENOUGH_REPLICA")
    assert not desk.rules.active


def test_a_fault_survives_json():
    fault = Fault(do="error", api="Produce", error="NOT_ENOUGH_REPLICAS", topic="orders", times=3)
    assert Fault.from_json(fault.to_json()) == fault
