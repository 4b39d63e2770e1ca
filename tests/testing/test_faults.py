"""Failures on demand, as an unmodified client meets them."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from millstream.local.faults.fault import BadFault
from millstream.testing.faults import BrokerControl
from millstream.testing.local import LocalKafka

PATIENCE = 60.0


class Client:
    """A broker of this test's own with the topic "orders", and what a test does with it."""

    def __init__(self, kafka: LocalKafka) -> None:
        self.kafka = kafka
        self.config = {
            "bootstrap.servers": kafka.bootstrap, "log_level": 0,
            "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "retry.backoff.ms": 10,
        }  # fmt: skip
        self.admin = AdminClient(self.config)
        self.create("orders")

    def create(self, topic: str, **config: str) -> None:
        settings = {name.replace("_", "."): value for name, value in config.items()}
        self.admin.create_topics([NewTopic(topic, 1, config=settings)])[topic].result(PATIENCE)

    def producer(self, **settings: Any) -> Producer:
        return Producer({**self.config, "linger.ms": 0, **{k.replace("_", "."): v for k, v in settings.items()}})

    def send(self, value: str, topic: str = "orders", key: str | None = None, **settings: Any) -> KafkaError | None:
        """Produce one record and wait; the error that the producer was told in the end."""
        producer, errors = self.producer(**settings), []
        producer.produce(topic, value, key, on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(PATIENCE) == 0
        return errors[0]

    def consumer(self, group: str = "g", **settings: Any) -> Consumer:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        return Consumer(
            {**self.config, "group.id": group, "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": 10, **given}
        )

    def values(self, topic: str = "orders") -> list[str]:
        """What a new reader sees, up to the end."""
        reader = self.consumer("reader", enable_partition_eof=True, isolation_level="read_committed")
        reader.subscribe([topic])
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while (message := reader.poll(1)) is None or message.error() is None:
            assert time.monotonic() < deadline
            if message is not None:
                found.append(message.value().decode())
        assert message.error().code() == KafkaError._PARTITION_EOF
        reader.close()
        return found


@pytest.fixture
def client(kafka: LocalKafka) -> Client:
    return Client(kafka)


def test_a_producer_outlasts_three_refusals(client: Client):
    with client.kafka.faults.error("Produce", "NOT_ENOUGH_REPLICAS", topic="orders", times=3) as refused:
        assert client.send("v") is None
        assert refused.hits == 3
        refused.wait(hits=3, timeout=5)
    assert client.values() == ["v"]


def test_a_producer_is_told_what_it_cannot_outlast(client: Client):
    with client.kafka.faults.error("Produce", "TOPIC_AUTHORIZATION_FAILED"):
        error = client.send("v")
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert client.values() == []


def test_a_lost_response_is_repeated_and_written_once_by_an_idempotent_producer(client: Client):
    with client.kafka.faults.lose_response("Produce", times=1) as lost:
        assert client.send("v", enable_idempotence=True) is None
        assert lost.hits == 1
    assert client.values() == ["v"]


def test_a_lost_response_is_written_twice_by_one_that_is_not(client: Client):
    with client.kafka.faults.lose_response("Produce", times=1):
        assert client.send("v", enable_idempotence=False) is None
    assert client.values() == ["v", "v"]


def test_a_reader_outlasts_a_leader_that_is_lost(client: Client):
    client.send("v")
    with client.kafka.faults.error("Fetch", "NOT_LEADER_OR_FOLLOWER", topic="orders", times=2) as lost:
        assert client.values() == ["v"]
        assert lost.hits == 2


def test_a_reader_outlasts_a_coordinator_that_moves(client: Client):
    client.send("v")
    with (
        client.kafka.faults.error("FindCoordinator", "COORDINATOR_NOT_AVAILABLE", group="reader", times=1) as absent,
        client.kafka.faults.error("JoinGroup", "NOT_COORDINATOR", group="reader", times=1) as moved,
    ):
        assert client.values() == ["v"]
        assert (absent.hits, moved.hits) == (1, 1)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_producer_tries_again_when_its_request_vanishes(client: Client, how: str):
    fault: Callable[..., Any] = getattr(client.kafka.faults, how)
    with fault("Produce", times=1) as rule:
        assert client.send("v", socket_timeout_ms=1000, request_timeout_ms=900) is None
        assert rule.hits == 1
    assert client.values() == ["v"]


@pytest.mark.parametrize(("when", "written"), [("before", []), ("after", ["v"])])
def test_a_crash_comes_before_or_after_the_write(client: Client, when: Any, written: list[str]):
    producer = client.producer(retries=0)
    with client.kafka.faults.crash("Produce", when):
        producer.produce("orders", "v")
        producer.poll(0)
        client.kafka.wait_for_crash()
    producer.purge()
    producer.flush(PATIENCE)
    client.kafka.restart()
    assert client.values() == written


def test_a_commit_whose_answer_is_lost_with_the_broker_has_happened(client: Client):
    producer = client.producer(transactional_id="t-1")
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce("orders", "v")
    producer.flush(PATIENCE)
    client.kafka.faults.crash("EndTxn", "after", transactional_id="t-1")
    with pytest.raises(KafkaException):
        producer.commit_transaction(2)
    client.kafka.wait_for_crash()
    client.kafka.restart()
    client.producer(transactional_id="t-1").init_transactions(PATIENCE)
    assert client.values() == ["v"]


def test_a_delay_is_over_at_once_when_the_clock_is_put_forward(client: Client):
    with client.kafka.faults.delay("Produce", seconds=3600) as delayed:
        producer = client.producer()
        producer.produce("orders", "v")
        producer.poll(0)
        delayed.wait()
        client.kafka.advance(3600)
        assert producer.flush(PATIENCE) == 0


def test_an_observer_tells_who_asked_for_what(client: Client):
    with client.kafka.faults.observe("Produce", client_id="teller") as seen:
        client.send("v", client_id="teller")
        client.send("v", client_id="another")
        seen.wait(hits=1, timeout=5)
        (request,) = seen.requests
    assert (request["client_id"], request["topics"], request["api"]) == ("teller", ["orders"], "Produce")


def test_waiting_for_hits_ends(client: Client):
    with client.kafka.faults.observe("EndTxn") as seen, pytest.raises(TimeoutError, match="0 of 2 hits after"):
        seen.wait(hits=2, timeout=0.1)


def test_a_group_is_waited_for(client: Client):
    with pytest.raises(TimeoutError, match="'g' is Dead with 0 members"):
        client.kafka.wait_for_group("g", members=2, timeout=0.1)
    readers = [client.consumer(client_id=f"reader-{number}", session_timeout_ms=6000) for number in range(2)]
    for reader in readers:
        reader.subscribe(["orders"])
        reader.poll(0)
    with polled(readers):
        members = client.kafka.wait_for_group("g", members=2, timeout=PATIENCE)
    assert {member["client_id"] for member in members} == {"reader-0", "reader-1"}
    for reader in readers:
        reader.close()
    assert client.kafka.wait_for_group("g", members=0) == []


class polled:  # noqa: N801 (reads as a sentence)
    """Polls consumers while a test waits."""

    def __init__(self, consumers: list[Consumer]) -> None:
        import threading

        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, args=(consumers,))

    def _poll(self, consumers: list[Consumer]) -> None:
        while not self._over.is_set():
            for consumer in consumers:
                consumer.poll(0.05)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)


def test_sessions_end_when_the_clock_is_put_forward(client: Client):
    reader = client.consumer(session_timeout_ms=45_000, heartbeat_interval_ms=15_000)
    reader.subscribe(["orders"])
    with polled([reader]):
        client.kafka.wait_for_group("g", members=1, timeout=PATIENCE)
    client.kafka.advance(46)
    assert client.kafka.wait_for_group("g", members=0, timeout=5) == []
    reader.close()


def test_an_open_transaction_times_out_when_the_clock_is_put_forward(client: Client):
    producer = client.producer(transactional_id="t-1", transaction_timeout_ms=60_000)
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce("orders", "aborted")
    producer.flush(PATIENCE)
    client.kafka.advance(61)
    with pytest.raises(KafkaException):
        producer.commit_transaction(PATIENCE)
    client.send("v")
    assert client.values() == ["v"]


def test_retention_takes_what_is_due_now(client: Client):
    client.create("short", retention_ms="60000")
    client.send("old", "short")
    client.kafka.expire()
    assert client.values("short") == ["old"]
    client.kafka.advance(61)
    client.kafka.expire()
    assert client.values("short") == []


def test_compaction_leaves_the_last_record_of_a_key(client: Client):
    client.create("accounts", cleanup_policy="compact")
    for value in ("1", "2"):
        client.send(value, "accounts", key="a")
    client.kafka.compact("accounts")
    assert client.values("accounts") == ["2"]
    with pytest.raises(LookupError, match="no topic 'nowhere'"):
        client.kafka.compact("nowhere")


def test_rules_that_cannot_be_are_refused_with_the_remedy(kafka: LocalKafka):
    with pytest.raises(BadFault, match=r"^api: Kafka has no 'Produc'; Produce\?$"):
        kafka.faults.drop("Produc")
    with pytest.raises(BadFault, match="times: must be a whole number"):
        kafka.faults.drop("Produce", times=0)


def test_a_rule_ends_with_its_block_and_with_its_broker(kafka: LocalKafka):
    with kafka.faults.observe() as rule:
        assert rule.hits == 0
    with pytest.raises(LookupError, match="no rule 1"):
        _ = rule.hits
    rule.remove()
    with kafka.faults.observe() as rule:
        kafka.kill()
        with pytest.raises(ConnectionError, match="does the broker run"):
            _ = rule.hits
    kafka.restart()
    kafka.faults.observe()
    kafka.faults.clear()


@pytest.fixture
def told(kafka: LocalKafka) -> Callable[..., tuple[int, Any]]:
    def tell(method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        done = subprocess.run(
            ["curl", "-s", "-i", "-X", method, kafka.control + path, *(["--data-binary", "@-"] if body else [])],
            input=body, capture_output=True, timeout=PATIENCE, check=True,
        ).stdout  # fmt: skip
        head, _, content = done.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").partition(b"\r\n\r\n")
        if b"problem+json" in head:
            assert json.loads(content)["status"] == int(head.split()[1])
        return int(head.split()[1]), json.loads(content) if content else None

    return tell


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/nowhere", None, 404, "/faults"),
        ("PUT", "/faults", None, 405, "GET, POST, DELETE"),
        ("POST", "/faults", b"{", 400, "JSON"),
        ("POST", "/faults", b"[" * 60_000, 400, "JSON"),
        ("POST", "/faults", b"[1]", 422, "object"),
        ("POST", "/faults", b'"' + b"x" * 70_000 + b'"', 413, "65536"),
        ("POST", "/faults", b'{"do": "drop", "api": "Fetsch"}', 422, "Fetch?"),
        ("POST", "/faults", b'{"do": "delay", "seconds": 1e999}', 422, "seconds"),
        ("GET", "/faults/x", None, 404, "number"),
        ("GET", "/faults/7", None, 404, "no rule 7"),
        ("GET", "/groups/g?members=x", None, 422, "members"),
        ("GET", "/groups/g?timeout=-1", None, 422, "timeout"),
        ("GET", "/groups/g?timeout=inf", None, 422, "timeout"),
        ("GET", "/groups/g?member=1", None, 400, "members"),
        ("GET", "/groups/g?timeout=0", None, 504, "Dead"),
        ("POST", "/clock", b'{"advance": -1}', 422, "advance"),
        ("POST", "/clock", b'{"forward": 1}', 400, "advance"),
        ("POST", "/compact", b'{"topic": 7}', 422, "topic"),
        ("POST", "/compact", b'{"topic": "nowhere"}', 404, "nowhere"),
    ],
)
def test_wrong_requests_get_a_problem_with_its_remedy(
    told: Callable[..., tuple[int, Any]], method: str, path: str, body: bytes | None, status: int, said: str
):
    answered, problem = told(method, path, body)
    assert answered == status
    assert said in problem["detail"]


def test_other_languages_use_http(told: Callable[..., tuple[int, Any]], kafka: LocalKafka):
    status, rule = told("POST", "/faults", b'{"do": "error", "api": "Produce", "error": "NOT_ENOUGH_REPLICAS"}')
    assert (status, rule["hits"]) == (201, 0)
    assert [listed["id"] for listed in told("GET", "/faults")[1]] == [rule["id"]]
    assert told("DELETE", f"/faults/{rule['id']}") == (204, None)
    ahead = told("POST", "/clock", b'{"advance": 60}')[1]["ahead"]
    assert (ahead, told("GET", "/clock")[1]["ahead"]) == (60, 60)
    assert told("POST", "/expire") == (204, None)
    assert told("GET", "/")[1]["faults"] == 0


def test_a_broker_elsewhere_is_driven_by_its_address(kafka: LocalKafka):
    with BrokerControl(kafka.control).faults.observe() as rule, urlopen(Request(f"{kafka.control}/faults")) as listed:
        assert len(json.load(listed)) == 1
        assert rule.hits == 0
