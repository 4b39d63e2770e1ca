"""The handle on the local broker that tests are given."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from millstream.testing.child import StartFailed, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.wire import Wire

SCHEMA = {"schema": '"string"'}


def produce(bootstrap: str, topic: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "log_level": 2})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [message.value() for message in consumer.consume(count, 20)]
    consumer.close()
    return found


def test_data_and_ports_outlive_a_kill(kafka: LocalKafka):
    bootstrap, registry, pid = kafka.bootstrap, kafka.registry, kafka.pid
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    admin.create_topics([NewTopic("t", 1)])["t"].result(20)
    produce(bootstrap, "t", "before")
    assert httpx.post(f"{registry}/subjects/s/versions", json=SCHEMA).json()["id"] == 1
    kafka.kill()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{registry}/subjects")
    kafka.restart()
    assert (kafka.bootstrap, kafka.registry) == (bootstrap, registry)
    assert kafka.pid != pid
    produce(bootstrap, "t", "after")
    assert read(bootstrap, "t", 2) == [b"before", b"after"]
    assert httpx.get(f"{registry}/subjects").json() == ["s"]


@pytest.mark.parametrize("kafka", [{"like_a_cluster": True}], indirect=True)
def test_transactions_take_their_time_where_that_is_wished(kafka: LocalKafka):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic("t", 1)])["t"].result(20)
    with Wire(kafka.bootstrap) as wire:
        who: dict[str, Any] = {"transactional_id": "x"}
        answer = wire.any.ask("init_producer_id", 4, **who, transaction_timeout=10_000)
        who |= {"producer_id": answer.producer_id, "producer_epoch": answer.producer_epoch}

        def begun() -> str:
            named = {f"v3_and_below_{key}": value for key, value in who.items()}
            topics = [{"name": "t", "partitions": [0]}]
            added = wire.any.ask("add_partitions_to_txn", 0, **named, v3_and_below_topics=topics)
            return added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code.name

        seen: list[str] = []
        for _ in range(20):
            wait_until(lambda: begun() == "none", seconds=60, what="a transaction")
            assert wire.any.ask("end_txn", 1, **who, committed=True).error_code.name == "none"
            seen.append(begun())
            if "concurrent_transactions" in seen:
                return
            assert wire.any.ask("end_txn", 1, **who, committed=True).error_code.name == "none"
        pytest.fail(f"no transaction was still being ended: {seen}")


def test_a_stopped_broker_has_no_process(tmp_path: Path):
    kafka = LocalKafka(tmp_path)
    kafka.stop()
    kafka.stop()
    with pytest.raises(RuntimeError, match="restart"):
        _ = kafka.pid


def test_a_broker_that_cannot_start_says_why(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    taken = [int(address.rpartition(":")[2]) for address in (kafka.bootstrap, kafka.registry, kafka.control)]
    monkeypatch.setattr("millstream.testing.local.free_ports", lambda count: taken)
    with pytest.raises(StartFailed, match="address already in use"):
        LocalKafka(tmp_path / "second")


def test_the_plugin_imports_nothing_heavy():
    heavy = "{'confluent_kafka', 'kio', 'httpx', 'starlette', 'uvicorn', 'avro', 'fastapi', 'millstream.testing.wire'}"
    code = f"import sys, json, millstream.testing.plugin; print(json.dumps(sorted({heavy} & set(sys.modules))))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert json.loads(printed) == []


def test_tests_that_share_a_broker_get_the_same_one(shared_kafka: LocalKafka, request: Any):
    assert request.getfixturevalue("shared_kafka") is shared_kafka
