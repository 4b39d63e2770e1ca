"""Topics that are made on first use, where that is switched on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from millstream.local.broker import Broker, Options
from millstream.local.broker.dispatch import Session
from millstream.testing.wire import read_answer, record_batch, request_frame

Ask = Callable[..., Any]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "data", lambda: 1_000_000, Options(auto_create_partitions=3))
    yield broker
    broker.close()


@pytest.fixture
def ask(broker: Broker) -> Ask:
    session = Session(broker, "host")

    def asked(api: str, version: int, **values: Any) -> Any:
        frames: list[bytes] = []
        session.handle(memoryview(bytearray(request_frame(api, version, 1, values))), frames.append)
        broker.settle()
        return read_answer(api, version, frames[0][4:])[1]

    return asked


def metadata(ask: Ask, topic: str, *, may_create: bool) -> str:
    asked = {"allow_auto_topic_creation": may_create, "include_topic_authorized_operations": False}
    answer = ask("metadata", 12, topics=[{"topic_id": UUID(int=0), "name": topic}], **asked)
    return answer.topics[0].error_code.name


def test_asking_for_a_topic_makes_it_if_the_client_wishes(broker: Broker, ask: Ask):
    assert metadata(ask, "t", may_create=False) == "unknown_topic_or_partition"
    assert metadata(ask, "t", may_create=True) == "none"
    assert len(broker.topics.get("t").partitions) == 3


def test_a_name_that_cannot_be_makes_no_topic(broker: Broker, ask: Ask):
    assert metadata(ask, "a/b", may_create=True) == "invalid_topic_exception"
    assert not broker.topics.by_name


def test_writing_makes_no_topic(broker: Broker, ask: Ask):
    data = [{"name": "t", "partition_data": [{"index": 0, "records": record_batch([b"v"])}]}]
    answer = ask("produce", 10, transactional_id=None, acks=-1, timeout=1_000, topic_data=data)
    assert answer.responses[0].partition_responses[0].error_code.name == "unknown_topic_or_partition"
    assert not broker.topics.by_name


def test_the_broker_says_that_it_makes_topics(ask: Ask):
    resource = {"resource_type": 4, "resource_name": "1", "configuration_keys": ["auto.create.topics.enable"]}
    asked = {"include_synonyms": False, "include_documentation": False}
    (config,) = ask("describe_configs", 4, resources=[resource], **asked).results[0].configs
    assert config.value == "true"
