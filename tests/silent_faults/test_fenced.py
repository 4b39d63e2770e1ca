"""A member that is fenced though there is no other holder joins again; one that has another holder names it."""

from pathlib import Path

import pytest
from tests.silent_faults.house import House
from tests.silent_faults.test_workers import said

from millstream.operate.run import Exit
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

GROUPS = {"kafka": "{}.kafka", "sql": "{}.sql", "effect": "{}.effect", "sink": "{}.rows.rows"}


@pytest.mark.parametrize("api", ["Heartbeat", "OffsetCommit"])
@pytest.mark.parametrize(
    "kind", ["kafka", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sql", "effect", "sink"))]
)
def test_a_member_that_nobody_fenced_joins_again(
    kafka: LocalKafka, tmp_path: Path, kind: str, api: str, caplog: pytest.LogCaptureFixture
):
    if (kind, api) in (("kafka", "OffsetCommit"), ("effect", "OffsetCommit")):
        api = "TxnOffsetCommit"
    house = House(kind, kafka.bootstrap, kafka.registry, tmp_path)
    done = f"{house.name}.rows" if kind == "sink" else house.done.name
    with house.running():
        with kafka.faults.error(api, "FENCED_INSTANCE_ID", group=GROUPS[kind].format(house.name), times=1) as rule:
            house.ask("a")
            rule.wait(1, timeout=30)
        house.ask("b")
        wait_until(
            lambda: {message.key() for message in house.records(done)} == {b"a", b"b"},
            seconds=60,
            what="both are done",
            every=0.1,
        )
        wait_until(lambda: house.settled(), seconds=60, what="the group has read everything", every=0.1)
    assert house.crew.exit is Exit.STOPPED
    assert len(house.records(done)) == 2
    if api == "Heartbeat":
        assert said(caplog, "group_joined_again")


def test_another_holder_is_named(kafka: LocalKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    house = House("kafka", kafka.bootstrap, kafka.registry, tmp_path)
    group = f"{house.name}.kafka"
    with house.running():
        other = house.kafka.consumer(group, instance=f"{group}-0", co_partitioned=True)
        other.subscribe([house.asked.name])
        wait_until(lambda: bool(other.poll_batch(1) or house.stop.is_set()), seconds=60, what="the first stops")
        other.close()
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "worker_failed")
    assert "is held from 127.0.0.1" in line["error"]
