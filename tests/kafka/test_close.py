"""A member closes, whatever rebalances nobody has polled for."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.local import LocalKafka


@pytest.fixture
def kafka(shared_kafka: LocalKafka) -> Kafka:
    return connect(Settings(bootstrap_servers=shared_kafka.bootstrap))


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_members_close_at_any_moment_of_a_rebalance(kafka: Kafka, static: bool, caplog: pytest.LogCaptureFixture):
    topic, admin = f"close-{uuid4().hex}", kafka.admin()
    admin.ensure_topics([TopicSpec(topic, 4)])

    def open_and_close(moment: float) -> str:
        consumer = kafka.consumer(group := uuid4().hex, instance="slot-0" if static else None)
        consumer.subscribe([topic])
        time.sleep(moment)  # the rebalance goes on, and nobody polls
        consumer.close()
        return group

    moments = [random.Random(seed).uniform(0.02, 0.4) for seed in range(120)]
    with ThreadPoolExecutor(8) as pool:
        groups = list(pool.map(open_and_close, moments))
    assert not any("consumer_not_closed" in record.getMessage() for record in caplog.records)
    if not static:
        assert {admin.group_members(group) for group in groups} == {0}
    admin.close()
