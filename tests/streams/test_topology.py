"""Topologies in the driver: what holds whatever the operators are."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from millstream.errors import DeclarationError
from millstream.streams import Topology, Windowed, hopping, session, sliding, tumbling
from millstream.testing import TopologyDriver
from millstream.testing.topology import Produced

SECONDS_10 = timedelta(seconds=10)


def test_a_record_that_fails_leaves_nothing_behind():
    topology, broken = Topology(), [True]

    def checked(value: int | None) -> int | None:
        if broken[0]:
            raise ValueError("not now")
        return value

    topology.stream("a").group_by_key().count().to_stream().map_values(checked).to("out")
    driver = TopologyDriver(topology)
    with pytest.raises(ValueError, match="not now"):
        driver.send("a", "k", "1", time=1)
    broken[0] = False
    assert driver.send("a", "k", "1", time=2) == [Produced("out", "k", 1, 2)]


def test_time_of_a_record_that_fails_closes_no_window():
    topology, broken = Topology(), {"k"}

    windows = topology.stream("a").group_by_key().window(tumbling(SECONDS_10)).count()
    windows.to_stream().peek(lambda key, _: 1 / 0 if key.key in broken else None).to("out")
    driver = TopologyDriver(topology)
    with pytest.raises(ZeroDivisionError):
        driver.send("a", "k", "1", time=60_000)
    assert driver.send("a", "j", "1", time=1_000) == [Produced("out", Windowed("j", 0, 10_000), 1, 1_000)]


def test_one_topic_feeds_several_parts():
    topology = Topology()
    topology.stream("a").map_values(str.upper).to("upper")
    topology.stream("a").group_by_key().count().to_stream().to("count")
    driver = TopologyDriver(topology)
    assert driver.send("a", "k", "x", time=5) == [Produced("upper", "k", "X", 5), Produced("count", "k", 1, 5)]


def test_two_drivers_of_one_topology_share_nothing():
    topology = Topology()
    both = topology.stream("a").group_by_key().cogroup(lambda _, value, before: (before or "") + value)
    both.cogroup(
        topology.stream("b").group_by_key(), lambda _, value, before: (before or "") + value
    ).aggregate().to_stream().to("out")
    for _ in range(2):
        driver = TopologyDriver(topology)
        assert [one.value for one in driver.send("a", "k", "1", time=1)] == ["1"]
        assert [one.value for one in driver.send("b", "k", "2", time=1)] == ["12"]


def test_windows_and_joins_forget_what_is_over():
    topology = Topology()
    left, right = topology.stream("left"), topology.stream("right")
    left.outer_join(right, lambda one, two: (one, two), before=SECONDS_10, after=SECONDS_10).to("out")
    for window in (hopping(SECONDS_10, timedelta(seconds=5)), sliding(SECONDS_10), session(SECONDS_10)):
        grouped = left.group_by_key().window(window)
        grouped.aggregate(lambda _, __, n: (n or 0) + 1, merge=lambda _, n, m: n + m).to_stream().to("out")
        grouped.aggregate(lambda _, __, n: (n or 0) + 1, merge=lambda _, n, m: n + m, on_close=True).to_stream().to(
            "out"
        )
    driver = TopologyDriver(topology)
    sizes: list[int] = []
    for second in range(400):
        driver.send("left", f"k{second % 7}", second, time=1_000 * second)
        driver.send("right", f"k{second % 5}", second, time=1_000 * second)
        sizes.append(driver.entries)
    assert max(sizes[300:]) <= max(sizes[:200])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tumbling(timedelta(0)), "0 < advance <= size"),
        (lambda: hopping(SECONDS_10, timedelta(seconds=11)), "0 < advance <= size"),
        (lambda: tumbling(SECONDS_10, grace=-SECONDS_10), "grace below zero"),
        (lambda: sliding(timedelta(0)), "positive difference"),
        (lambda: session(timedelta(0)), "positive gap"),
        (lambda: Topology().table("a").suppress_until_close(), "only windows close"),
        (
            lambda: Topology().stream("a").group_by_key().window(session(SECONDS_10)).aggregate(lambda _, __, n: n),
            "merge=",
        ),
        (
            lambda: Topology().stream("a").join_table(Topology().table("b"), lambda one, _: one, grace=SECONDS_10),
            "history",
        ),
        (
            lambda: (
                Topology()
                .stream("a")
                .join(Topology().stream("b"), lambda one, _: one, before=-SECONDS_10, after=SECONDS_10)
            ),
            "zero or more",
        ),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(make: Callable[[], object], said: str):
    with pytest.raises(DeclarationError, match=said):
        make()


def test_streams_of_two_topologies_are_not_joined():
    with pytest.raises(DeclarationError, match="one topology"):
        Topology().stream("a").merge(Topology().stream("b"))
