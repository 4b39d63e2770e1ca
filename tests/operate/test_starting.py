"""Where a service begins that has read nothing yet, and whether it is a new one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.runtime.effect_rig import EffectRig
from tests.runtime.rig import Rig
from tests.runtime.sql_rig import SqlRig, running

from millstream.declare import Kind, Service
from millstream.errors import ConfigurationError, DeclarationError
from millstream.kafka import END
from millstream.operate.growing import plan_growth
from millstream.operate.starting import begin, partitions_of, set_positions
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka


@pytest.fixture
def rig(shared_kafka: LocalKafka) -> Iterator[Rig]:
    made = Rig(shared_kafka.bootstrap, shared_kafka.registry)
    made.make_topics()
    yield made
    made.close()


@pytest.fixture
def sql(shared_kafka: LocalKafka, tmp_path: Path) -> Iterator[SqlRig]:
    made = SqlRig(shared_kafka.bootstrap, tmp_path)
    made.make_topics()
    yield made
    made.engine.dispose()


def start(rig: Any, *names: str) -> None:
    begin(rig.service, names or (rig.service.name,), rig.settings(0), rig.kafka)


def forget(rig: Any, kind: Kind) -> None:
    """As brokers do with the offsets of a group that was away for a week."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": rig.bootstrap})
    group = rig.service.group(kind)

    def deleted() -> bool:
        return admin.delete_consumer_groups([group])[group].exception(20) is None

    wait_until(deleted, seconds=60, what="the session to run out", every=0.1)


def reset(rig: Any, kind: Kind, at: int) -> None:
    admin = rig.kafka.admin()
    topics = [topic.name for topic in rig.service.consumed(kind)]
    offsets = admin.offsets_at(partitions_of(admin, topics), at)

    def done() -> bool:
        try:
            set_positions(rig.service, kind, offsets, rig.settings(0), rig.kafka, admin)
        except ConfigurationError:  # it has members
            return False
        return True

    wait_until(done, seconds=60, what="the session to run out", every=0.1)
    admin.close()


def test_a_new_service_begins_with_all_that_there_is(rig: Rig):
    rig.pay(("o-1", 1), ("o-1", 2))
    start(rig)
    with rig.running():
        rig.wait_until_caught_up()
    start(rig)
    assert rig.shipped() == {"o-1": [1, 2]}


@pytest.mark.slow
def test_a_group_whose_offsets_are_lost_is_refused_until_a_person_has_said_where_it_begins(rig: Rig):
    start(rig)
    rig.pay(("o-1", 1), ("o-1", 2))
    with rig.running():
        rig.wait_until_caught_up()
    forget(rig, Kind.KAFKA)
    with pytest.raises(ConfigurationError, match=rf"its state is in .*{rig.service.name}.*millstream reset"):
        start(rig)
    reset(rig, Kind.KAFKA, END)
    start(rig)
    rig.pay(("o-1", 3))
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2, 3]}


def test_a_renamed_service_is_refused_and_a_second_producer_is_not(sql: SqlRig):
    sql.order(("tea", 1), ("tea", 1))
    with running(sql.worker(), sql.relay()):
        sql.wait_until_published(2)
    renamed = Service("renamed", tables=sql.service.tables)
    renamed.handlers.extend(sql.service.handlers)
    admin = sql.kafka.admin()
    from millstream.operate.assembly import topics_of

    admin.ensure_topics(topics_of(renamed))
    admin.close()
    settings = sql.settings(0)
    with pytest.raises(ConfigurationError, match=rf"Reserved events are in .* published by '{sql.service.name}'"):
        begin(renamed, ["renamed"], settings, sql.kafka)
    begin(renamed, ["renamed", sql.service.name], settings, sql.kafka)


@pytest.mark.slow
def test_another_database_is_refused_until_a_person_has_said_where_it_begins(sql: SqlRig):
    start(sql)
    sql.order(("tea", 1), ("tea", 1))
    with running(sql.worker(), sql.relay()):
        sql.wait_until_published(2)
        sql.wait_until_caught_up()
    with sql.engine.begin() as connection:
        connection.execute(text("DELETE FROM millstream_positions"))
    with pytest.raises(ConfigurationError, match="knows no position of group"):
        start(sql)
    reset(sql, Kind.SQL, END)
    start(sql)
    sql.order(("tea", 1))
    with running(sql.worker(), sql.relay()):
        sql.wait_until_published(3)
    assert sql.published() == {"tea": [1, 2, 3]}


def test_a_declared_start_is_kept_to_once(shared_kafka: LocalKafka, tmp_path: Path):
    rig = EffectRig(shared_kafka.bootstrap, tmp_path)
    rig.make_topics()
    rig.charge(("c-1", 1))
    rig.service.start = "latest"
    start(rig)
    rig.charge(("c-1", 2))
    start(rig)
    rig.service.start = datetime(2020, 1, 1, tzinfo=UTC)
    start(rig)
    admin = rig.kafka.admin()
    committed = {at: found.offset for at, found in admin.group_offsets(rig.service.group(Kind.EFFECT)).items()}
    ends = admin.end_offsets(partitions_of(admin, [rig.payments.charges.name]))
    assert sum(ends.values()) == 2
    assert sum(committed[at] or 0 for at in ends) == 1, "the second charge came after the start"
    admin.close()


@pytest.mark.parametrize("wrong", ["newest", datetime(2026, 1, 1)])
def test_a_start_that_says_nothing_is_refused(wrong: Any):
    with pytest.raises(DeclarationError, match="start="):
        Service("s", start=wrong)


def test_partitions_are_added_to_all_topics_that_must_agree(shared_kafka: LocalKafka, tmp_path: Path):
    rig = EffectRig(shared_kafka.bootstrap, tmp_path)
    rig.make_topics()
    rig.charge(("c-1", 1))
    rig.payments.charges.partitions = 5
    admin, settings = rig.kafka.admin(), rig.settings(0)
    growth = plan_growth([rig.service], settings, rig.kafka, admin)
    assert any("1 records to read yet" in reason for reason in growth.against)
    reset(rig, Kind.EFFECT, END)
    growth = plan_growth([rig.service], settings, rig.kafka, admin)
    assert growth.against == ()
    names = {rig.payments.charges.name, rig.redrive_topic, rig.parked_topic}
    assert {name: growth.topics[name] for name in names} == dict.fromkeys(names, (2, 5))
    admin.grow_topics({name: count for name, (_, count) in growth.topics.items()})
    assert plan_growth([rig.service], settings, rig.kafka, admin).topics == {}
    admin.close()


def test_partitions_are_not_added_where_keys_would_lose_their_state(rig: Rig):
    rig.parcels.payments.partitions = 4
    admin = rig.kafka.admin()
    growth = plan_growth([rig.service], rig.settings(0), rig.kafka, admin)
    admin.close()
    assert rig.parcels.payments.name in growth.topics
    assert any("the store counts" in reason and "empty state" in reason for reason in growth.against)
