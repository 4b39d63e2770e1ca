"""Topics that are deleted and made again, or get partitions, under workers of each kind and between their lives."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY
from tests.runtime.effect_rig import EffectRig
from tests.runtime.rig import Rig
from tests.runtime.running import Running
from tests.runtime.sql_rig import SqlRig, running

from millstream.contracts import header_writer
from millstream.errors import ConfigurationError, TopicMissing, TopicReplaced
from millstream.kafka import Kafka, TopicSpec
from millstream.operate.assembly import topics_of
from millstream.runtime.loop.topic_watch import TopicWatch
from millstream.runtime.sql.outbox import Outbox
from millstream.runtime.sql.relay import Turn
from millstream.telemetry import Health
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster


def remake(kafka: Kafka, topic: str, make: Callable[[], object]) -> None:
    admin = kafka.admin()
    before = admin.topic_ids([topic])
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.topic_ids([topic]), seconds=60, what="the topic to be gone", every=0.02)
    make()
    assert admin.topic_ids([topic]) != before
    admin.close()


def grow(kafka: Kafka, topic: str, count: int) -> None:
    admin = kafka.admin()
    admin.grow_topics({topic: count})
    admin.close()


def pay(rig: Rig, order: str, partition: int, times: int = 1) -> None:
    """By a producer that has heard of the topic as it is now."""
    producer = rig.kafka.producer()
    for number in range(times):
        headers = header_writer(rig.parcels.Paid, "test")(f"{order}-{number}", "story", None, None)
        value = rig.contracts.encode(rig.parcels.Paid(order_id=order))
        producer.produce(rig.parcels.payments.name, value, order.encode(), headers, partition)
    producer.flush()
    producer.close()


@pytest.fixture
def rig(shared_kafka: LocalKafka):
    made = Rig(shared_kafka.bootstrap, shared_kafka.registry)
    made.make_topics()
    yield made
    made.close()


def test_a_topic_made_again_under_a_kafka_worker_ends_it_and_the_next_handles_all_once(rig: Rig):
    pay(rig, "o-1", 0, times=3)
    worker = Running(rig.worker())
    wait_until(lambda: rig.shipped() == {"o-1": [1, 2, 3]}, seconds=60, what="three shipments", every=0.1)
    remake(rig.kafka, rig.parcels.payments.name, rig.make_topics)
    pay(rig, "o-1", 0)
    worker.wait(30)
    assert isinstance(worker.error, TopicReplaced)
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2, 3, 4]}


def test_what_lies_before_the_old_position_in_the_new_topic_is_handled_too(rig: Rig):
    """A consumer may go on in the new topic where it was in the old one, with no word from the broker."""
    pay(rig, "o-1", 0, times=3)
    worker = Running(rig.worker())
    watch = Running(TopicWatch(rig.service, rig.kafka, topics_of(rig.service), Health(), every=0.05))
    wait_until(lambda: rig.shipped() == {"o-1": [1, 2, 3]}, seconds=60, what="three shipments", every=0.1)
    remake(rig.kafka, rig.parcels.payments.name, rig.make_topics)
    pay(rig, "o-2", 0, times=5)
    watch.wait(20)
    assert isinstance(watch.error, TopicReplaced)
    worker.stop(30)

    def handled() -> set[str]:
        shipments = [message for message in rig.records(rig.parcels.shipments.name) if message.key() == b"o-2"]
        return {dict(message.headers() or ())["causationid"].decode() for message in shipments}

    with rig.running():
        wanted = {f"o-2-{number}" for number in range(5)}
        wait_until(lambda: handled() == wanted, seconds=60, what="all to be handled", every=0.1)


def test_a_changelog_made_again_is_refused_until_a_person_has_said_what_to_do(rig: Rig):
    pay(rig, "o-1", 0, times=3)
    with rig.running():
        rig.wait_until_caught_up()
    remake(rig.kafka, rig.parcels.counts.changelog(rig.service.name), rig.make_topics)
    pay(rig, "o-1", 0)
    refused = Running(rig.worker())
    refused.wait(30)
    assert isinstance(refused.error, ConfigurationError)
    assert rig.parcels.counts.changelog(rig.service.name) in str(refused.error)
    assert rig.shipped() == {"o-1": [1, 2, 3]}, "nothing is handled on a state that is not there"


def test_a_topic_made_again_under_effects_ends_them_and_the_next_carry_out_all_once(
    shared_kafka: LocalKafka, tmp_path: Path
):
    rig = EffectRig(shared_kafka.bootstrap, tmp_path)
    rig.make_topics()
    rig.charge(("c-1", 1), ("c-1", 2), ("c-1", 3))
    worker = Running(rig.worker())
    rig.wait_until_charged(3)
    remake(rig.kafka, rig.payments.charges.name, rig.make_topics)
    rig.charge(("c-1", 4))
    worker.wait(30)
    assert isinstance(worker.error, TopicReplaced)
    again = Running(rig.worker())
    rig.wait_until_charged(4)
    again.stop()
    assert rig.charged() == {"c-1": [1, 2, 3, 4]}
    assert len({key for _, _, key in rig.calls()}) == 4, "an event of the new topic is no repetition of an old one"


def test_the_watch_ends_a_process_whose_topic_was_made_again(rig: Rig):
    counts = rig.parcels.counts.changelog(rig.service.name)
    watch = TopicWatch(rig.service, rig.kafka, topics_of(rig.service), Health(), every=0.05)
    watching = Running(watch)
    wait_until(lambda: counts in watch.known, seconds=60, what="a first look")
    remake(rig.kafka, counts, rig.make_topics)
    watching.wait(20)
    assert isinstance(watching.error, TopicReplaced)
    assert counts in str(watching.error)


def unread(service: str, topic: str) -> float | None:
    return REGISTRY.get_sample_value("millstream_partitions_unread", {"service": service, "topic": topic})


def test_partitions_that_are_added_wait_and_the_others_go_on(rig: Rig):
    topic, health = rig.parcels.payments.name, Health()
    pay(rig, "o-1", 0)
    watch = Running(TopicWatch(rig.service, rig.kafka, topics_of(rig.service), health, every=0.05))
    with rig.running():
        wait_until(lambda: rig.shipped() == {"o-1": [1]}, seconds=60, what="a shipment", every=0.1)
        assert health.healthy
        grow(rig.kafka, topic, 4)
        wait_until(lambda: not health.healthy, seconds=60, what="health to say so")
        assert f"{topic} has 4 partitions and is declared with 2" in str(health.status())
        assert unread(rig.service.name, topic) == 2
    watch.stop()
    # A worker that starts is given all four.
    pay(rig, "o-1", 2)
    pay(rig, "o-1", 0)
    with rig.running() as life:
        wait_until(lambda: rig.shipped() == {"o-1": [1, 2]}, seconds=60, what="a shipment", every=0.1)
        assert life.worker.partitions == {0, 1}
    assert not rig.dead_letters()
    rig.make_topics()  # as a process does that starts


def test_members_of_a_group_share_no_state_after_partitions_were_added(rig: Rig):
    """The assignor gives the new numbers to one of them, and redrives of the old ones to the other."""
    grow(rig.kafka, rig.parcels.payments.name, 4)
    for partition in range(2):
        pay(rig, f"o-{partition}", partition)
    with rig.running(rig.worker(0)) as first, rig.running(rig.worker(1)) as second:
        wanted = {"o-0": [1], "o-1": [1]}
        wait_until(lambda: rig.shipped() == wanted, seconds=120, what="shipments", every=0.1)
        both = (first.worker.partitions, second.worker.partitions)
        wait_until(
            lambda: first.worker.partitions | second.worker.partitions == {0, 1}, seconds=60, what="all to be held"
        )
        assert not first.worker.partitions & second.worker.partitions, both


def test_partitions_that_are_added_wait_for_sql_handlers_and_effects(shared_kafka: LocalKafka, tmp_path: Path):
    sql, effects = SqlRig(shared_kafka.bootstrap, tmp_path), EffectRig(shared_kafka.bootstrap, tmp_path)
    sql.make_topics()
    effects.make_topics()
    grow(sql.kafka, sql.stock.orders.name, 4)
    grow(effects.kafka, effects.payments.charges.name, 4)
    producer = sql.kafka.producer()
    for partition in (3, 0):
        order = msgspec.json.encode({"product": f"tea-{partition}", "quantity": 1})
        producer.produce(sql.stock.orders.name, order, b"tea", partition=partition)
    producer.flush()
    producer.close()
    effects.send(("c-3", b'{"card": "c-3", "number": 1}'), partition=3)
    effects.send(("c-0", b'{"card": "c-0", "number": 2}'), partition=0)
    with running(sql.worker(), sql.relay()):
        sql.wait_until_published(1)
    effect = Running(effects.worker())
    effects.wait_until_charged(1)
    effect.stop()
    assert sql.table() == {"tea-0": 1}
    assert effects.charged() == {"c-0": [2]}
    sql.engine.dispose()


def test_fewer_partitions_than_declared_are_refused_with_the_command(rig: Rig):
    admin = rig.kafka.admin()
    with pytest.raises(ConfigurationError, match="millstream topics grow"):
        admin.ensure_topics([TopicSpec(rig.parcels.payments.name, 3)])
    admin.close()


@pytest.fixture
def stock(cluster: Cluster, tmp_path: Path):
    made = SqlRig(cluster.bootstrap, tmp_path)
    made.make_topics()
    yield made
    made.engine.dispose()


def append(stock: SqlRig, *values: int) -> None:
    topic = stock.stock.reserved.name
    with stock.engine.begin() as connection:
        Outbox(stock.service.name).append(connection, [(topic, b"k", b"%d" % value, []) for value in values])
    stock.wake.set()


def rows_left(stock: SqlRig) -> int:
    with stock.engine.connect() as connection:
        return Outbox(stock.service.name).waiting(connection, 0)[0]


def relayed(stock: SqlRig) -> list[int]:
    return [int(message.value() or b"") for message in stock.records(stock.stock.reserved.name)]


def wait_until_relayed(stock: SqlRig, *values: int) -> None:
    wait_until(lambda: relayed(stock) == [*values], seconds=120, what=f"{values} to be published", every=0.05)


def wait_until_tidied(stock: SqlRig) -> None:
    wait_until(lambda: rows_left(stock) == 0, seconds=120, what="published rows to be deleted", every=0.05)


def test_a_topic_made_again_under_the_relay_gets_every_row_from_then_on_once(stock: SqlRig):
    with running(stock.relay()):
        append(stock, 1, 2, 3)
        wait_until_relayed(stock, 1, 2, 3)
        stock.remake(stock.stock.reserved.name)
        append(stock, 4, 5)
        wait_until_relayed(stock, 4, 5)
    with running(stock.relay()):
        append(stock, 6)
        wait_until_relayed(stock, 4, 5, 6)


def test_the_topic_of_the_relays_position_made_again_under_it_publishes_nothing_twice(stock: SqlRig):
    """Kafka forgets a group's positions in a topic that is deleted."""
    with running(stock.relay()):
        append(stock, 1, 2, 3)
        wait_until_relayed(stock, 1, 2, 3)
        wait_until_tidied(stock)
        stock.remake(stock.stock.orders.name)
        append(stock, 4, 5)
        wait_until_relayed(stock, 1, 2, 3, 4, 5)
    with running(stock.relay()):
        append(stock, 6)
        wait_until_relayed(stock, 1, 2, 3, 4, 5, 6)


def test_the_topic_of_the_relays_position_made_again_between_its_lives_publishes_nothing_twice(stock: SqlRig):
    with running(stock.relay()):
        append(stock, 1, 2, 3)
        wait_until_relayed(stock, 1, 2, 3)
    stock.remake(stock.stock.orders.name)
    append(stock, 4, 5)
    with running(stock.relay()):
        wait_until_relayed(stock, 1, 2, 3, 4, 5)
        wait_until_tidied(stock)


def test_the_topic_of_the_relays_position_made_again_after_a_crash_loses_nothing(stock: SqlRig):
    """Rows that were published and not deleted yet are published again, as docs/topics-that-change.md says."""
    append(stock, 1, 2, 3)
    crashed = Turn(stock.service, stock.kafka, stock.engine)
    crashed.begin()
    crashed.publish_all()
    crashed.close()
    stock.remake(stock.stock.orders.name)
    append(stock, 4)
    with running(stock.relay()):
        wait_until_relayed(stock, 1, 2, 3, 1, 2, 3, 4)


def test_rows_wait_while_the_topic_that_they_go_to_is_gone(stock: SqlRig):
    admin = stock.kafka.admin()
    admin.delete_topics([stock.stock.reserved.name])
    append(stock, 1, 2)
    gone = Running(stock.relay())
    gone.wait(60)
    assert isinstance(gone.error, TopicMissing)
    assert stock.stock.reserved.name in str(gone.error)
    assert rows_left(stock) == 2
    stock.make_topics()
    with running(stock.relay()):
        wait_until_relayed(stock, 1, 2)
    admin.close()
