"""The same slot on two machines: the second waits for the first, and names it if it stays."""

import threading
import uuid

import pytest

from millstream.errors import Fenced, SlotTaken
from millstream.kafka import TopicSpec, connect, librdkafka, static_member
from millstream.settings import Settings
from millstream.testing.local import LocalKafka


@pytest.fixture
def machine(shared_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch):
    """A cluster as seen from a machine of this name."""
    monkeypatch.setattr(static_member, "MEMBERSHIP_GRACE", 1.0)
    monkeypatch.setattr(static_member, "LOOK_SECONDS", 0.1)
    name = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(bootstrap_servers=shared_kafka.bootstrap, session_timeout_ms=6_000, heartbeat_interval_ms=200)

    def on(host: str):
        monkeypatch.setattr(librdkafka, "gethostname", lambda: host)
        return connect(settings, f"{name}-0"), name

    return on


@pytest.mark.slow
def test_the_second_names_the_first_and_takes_over_when_it_is_gone(machine, caplog: pytest.LogCaptureFixture):
    kafka, name = machine("north")
    admin = kafka.admin()
    admin.ensure_topics([TopicSpec(name, 1)])
    admin.close()
    kafka.wait_for_memberships([(name, f"{name}-0")])
    first, stop = kafka.consumer(name, instance=f"{name}-0"), threading.Event()
    joined, errors = threading.Event(), list[Fenced]()
    first.subscribe([name], on_assigned=lambda partitions: joined.set())

    def poll() -> None:
        try:
            while not stop.is_set():
                first.poll_batch(1, 0.1)
        except Fenced as fenced:
            errors.append(fenced)

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        assert joined.wait(30)
        kafka.wait_for_memberships([(name, f"{name}-0")])  # its own predecessor is no obstacle
        other, _ = machine("south")
        with pytest.raises(SlotTaken, match=f"{name}-0@north at 127.0.0.1"):
            other.wait_for_memberships([(name, f"{name}-0")])
        assert not errors, "the first is not disturbed"
    finally:
        stop.set()
        polling.join()
        first.close()
    other.wait_for_memberships([(name, f"{name}-0")])  # its session runs out
