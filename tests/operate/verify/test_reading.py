"""When events happened: what they say, unless it is later than they can have been in the log."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from millstream import Event, Topic
from millstream.contracts import Contracts, Registry
from millstream.declare import full_name
from millstream.declare.invariant import Cases
from millstream.errors import TopicReplaced
from millstream.kafka import TopicSpec, connect
from millstream.operate.verify import Auditor, LogReader
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow


class Clocked(Event, key="clock"):
    clock: str


clocked = Topic("reading.clocked", Clocked, partitions=1, format="json")


def test_no_event_is_later_than_it_was_in_the_log(kafka: LocalKafka):
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin, contracts = cluster.admin(), Contracts(Registry(kafka.registry))
    admin.ensure_topics([TopicSpec(clocked.name, 1)])
    now, hour = datetime.fromtimestamp(time.time(), UTC), timedelta(hours=1)
    said_and_recorded = {
        "right": (now - hour, now - hour),
        "of the next century": (now + timedelta(days=30_000), now - hour),
        "whose machine is ahead": (now + hour / 2, now + hour / 2),
    }
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for clock, (said, recorded) in said_and_recorded.items():
        headers = [("ce_type", full_name(Clocked).encode()), ("ce_time", said.isoformat().encode())]
        value, milliseconds = contracts.encode(Clocked(clock=clock)), int(recorded.timestamp() * 1000)
        producer.produce(clocked.name, value, clock.encode(), headers=headers, timestamp=milliseconds)
    assert producer.flush(20) == 0

    clocks = Cases("clock", Clocked)
    audit, reader = Auditor((clocks,)), LogReader(cluster, admin, contracts, [clocked], {clocked.name: 1})
    ended = reader.settle_into(audit)
    assert (audit.cases, reader.undecodable) == (3, {})
    assert audit.under_way(ended) == 0, "all was there before the log ended"
    assert audit.under_way(ended - timedelta(minutes=10)) == 1, "the record that has no right time at all is of now"
    assert audit.under_way(ended - 2 * hour) == 3
    admin.close()


def test_a_topic_that_is_made_again_meanwhile_ends_it_with_what_to_do(kafka: LocalKafka):
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin, contracts = cluster.admin(), Contracts(Registry(kafka.registry))
    admin.ensure_topics([TopicSpec(clocked.name, 1)])
    audit = Auditor((Cases("clock", Clocked),))
    reader = LogReader(cluster, admin, contracts, [clocked], {clocked.name: 1})
    reader.settle_into(audit)
    admin.delete_topics([clocked.name])
    wait_until(lambda: clocked.name not in admin.topic_ids([clocked.name]), seconds=60, what="the topic to be gone")
    admin.ensure_topics([TopicSpec(clocked.name, 1)])
    with pytest.raises(TopicReplaced, match=rf"{clocked.name}.*Start `millstream verify` again"):
        reader.settle_into(audit)
    admin.close()
