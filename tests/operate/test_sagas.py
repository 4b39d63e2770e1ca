"""`millstream sagas` on changelogs that hold sagas in every state."""

import contextlib
import io
import json
import os
import sys
import tracemalloc
import types
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.patterns.saga_story import SagaStory
from tests.patterns.trips import Trips
from typer.testing import CliRunner

from millstream.contracts import Contracts, Registry
from millstream.declare import Kind, System
from millstream.kafka import connect
from millstream.operate.assembly import topics_of
from millstream.operate.sagas import Found, declared_sagas, read_sagas
from millstream.patterns.saga import SagaState
from millstream.settings import Settings
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

MINUTE = timedelta(minutes=1)


class Agencies:
    """Two services, each with its saga `trips`, and what their changelogs are given."""

    def __init__(self, kafka: LocalKafka) -> None:
        self.said = ""
        self.name = f"a{uuid.uuid4().hex[:8]}"
        self.env = {
            "MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "MILLSTREAM_REGISTRY_URL": kafka.registry,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        self.kafka = connect(Settings(bootstrap_servers=kafka.bootstrap), self.name)
        self.contracts = Contracts(Registry(kafka.registry))
        self.first, self.second = Trips(f"{self.name}-first"), Trips(f"{self.name}-second")
        module: Any = types.ModuleType(self.name)
        services = {trips.service.name.replace("-", "_"): trips.service for trips in (self.first, self.second)}
        vars(module).update(services)
        module.system = System("trips", services=[f"{self.name}:{name}" for name in services])
        sys.modules[self.name] = module
        admin = self.kafka.admin()
        admin.ensure_topics([spec for service in services.values() for spec in topics_of(service)])
        admin.close()

    def close(self) -> None:
        del sys.modules[self.name]

    def keep(self, trips: Trips, *stories: SagaStory) -> None:
        """What these sagas are now, in the changelog."""
        topic = trips.saga.store.changelog(trips.service.name)
        encode = self.contracts.values(topic, SagaState).encode
        producer = self.kafka.producer()
        for story in stories:
            for id, state in story.store.items():
                producer.produce(topic, encode(state), id.encode())
        producer.flush()
        producer.close()

    def tried_anew(self, trips: Trips) -> list[str]:
        """The sagas that were asked to."""
        topic = trips.service.redrive_topic(Kind.KAFKA)
        messages = [message for batch in self.kafka.read_to_end(topic, timeout=20) for message in batch]
        return [(message.key() or b"").decode() for message in messages]

    def call(self, *arguments: str) -> tuple[str, str]:
        """`millstream sagas …`, in this process: what it prints, and why it refuses."""
        from millstream.operate.cli.app import app

        command = ["sagas", *arguments, "--system", f"{self.name}:system"]
        with contextlib.redirect_stderr(io.StringIO()):
            result = CliRunner().invoke(app, command, env={**os.environ, **self.env})
        self.said = result.stderr
        return result.stdout, "" if result.exception is None else str(result.exception)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        printed, refused = self.call("list", "--json", *arguments)
        assert not refused
        return json.loads(printed)


@pytest.fixture
def agencies(shared_kafka: LocalKafka) -> Iterator[Agencies]:
    found = Agencies(shared_kafka)
    yield found
    found.close()


def running(trips: Trips, trip: str) -> SagaStory:
    story = SagaStory(trips.service, "trips")
    story.hear(trips.BookTrip(trip=trip, city="Rome"))
    return story


def parked(trips: Trips, trip: str) -> SagaStory:
    story = running(trips, trip)
    story.hear(trips.FlightBooked(trip=trip), trips.HotelRefused(trip=trip))
    for _ in range(3):
        story.pass_time(MINUTE)
    assert story.state(trip).parked
    return story


def cancelled(trips: Trips, trip: str) -> SagaStory:
    story = running(trips, trip)
    story.hear(trips.FlightRefused(trip=trip))
    assert story.state(trip).shown == "cancelled"
    return story


def test_a_step_that_was_done_late_is_listed_until_it_is_undone(agencies: Agencies):
    trips = agencies.first
    late = cancelled(trips, "late")
    late.hear(trips.FlightBooked(trip="late"))
    agencies.keep(trips, late, cancelled(trips, "over"), running(trips, "runs"), parked(trips, "waits"))
    waiting = {saga["id"]: (saga["state"], saga["step"]) for saga in agencies.listed()}
    assert waiting == {
        "late": ("cancelled", "BookFlight"),
        "runs": ("running", "BookFlight"),
        "waits": ("parked", "BookFlight"),
    }
    late.hear(trips.FlightCancelled(trip="late"))
    agencies.keep(trips, late)
    assert {saga["id"] for saga in agencies.listed()} == {"runs", "waits"}
    assert {saga["id"] for saga in agencies.listed("--state", "cancelled")} == {"late", "over"}


def test_of_two_sagas_with_one_id_the_parked_one_is_tried_anew(agencies: Agencies):
    agencies.keep(agencies.first, running(agencies.first, "t-1"), running(agencies.first, "t-2"))
    agencies.keep(agencies.second, parked(agencies.second, "t-1"), cancelled(agencies.second, "t-2"))
    printed, refused = agencies.call("retry", "t-1")
    assert (printed, refused) == (f"trips t-1 of {agencies.second.service.name} tries anew.\n", "")
    assert (agencies.tried_anew(agencies.first), agencies.tried_anew(agencies.second)) == ([], ["t-1"])
    printed, refused = agencies.call("retry", "t-2")
    assert (printed, refused) == (
        "",
        "No saga t-2 is parked, and only a parked one is tried again: "
        f"trips of {agencies.first.service.name} is running, trips of {agencies.second.service.name} is cancelled.",
    )
    assert "There is no saga with the id 'nobody'" in agencies.call("retry", "nobody")[1]


def test_reading_holds_what_is_wanted_and_no_more(agencies: Agencies):
    trips = agencies.first
    service, topic = trips.service, trips.saga.store.changelog(trips.service.name)
    agencies.keep(
        trips, cancelled(trips, "over"), running(trips, "runs"), parked(trips, "goes on"), running(trips, "goes")
    )
    agencies.keep(trips, running(trips, "goes on"))
    ended = msgspec.structs.replace(cancelled(trips, "over").state("over"), known={"much": os.urandom(5_000)})
    value = agencies.contracts.values(topic, SagaState).encode(ended)
    producer = agencies.kafka.producer()
    for number in range(5_000):
        producer.produce(topic, value, f"over-{number}".encode())
    producer.produce(topic, None, b"goes")
    producer.flush()
    producer.close()

    def read(**options: Any) -> list[Found]:
        declared = declared_sagas([service])
        return list(read_sagas(agencies.kafka, agencies.contracts, declared, {topic: None}, **options))

    read(id="runs")  # imports
    tracemalloc.start()
    waiting = read(wanted=lambda state: state.current is not None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted((found.id, found.state.shown) for found in waiting) == [("goes on", "running"), ("runs", "running")]
    assert all(found.state.known == {} for found in waiting), "what events said stays out"
    assert peak < 15e6, "25 MB of ended sagas are not held"

    tracemalloc.start()
    next(read_sagas(agencies.kafka, agencies.contracts, declared_sagas([service]), {topic: None}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 15e6, "no more is held where all are wanted"
    assert [found.id for found in read(id="over-77")] == ["over-77"]
    assert read(id="goes") == []
    assert len(read()) == 5_003


def test_no_saga_says_so_and_programs_find_an_empty_list(agencies: Agencies):
    assert agencies.call("list") == ("", "")
    assert agencies.said == "No saga waits for an answer; --state all shows those that have ended, too.\n"
    assert agencies.call("list", "--state", "parked") == ("", "")
    assert agencies.said == "There is no such saga.\n"
    assert agencies.listed() == []


def test_the_longest_unchanged_come_first_and_what_is_left_out_is_told(agencies: Agencies):
    agencies.keep(agencies.first, parked(agencies.first, "t-1"))
    agencies.keep(agencies.second, running(agencies.second, "t-2"), running(agencies.second, "t-3"))
    assert [saga["id"] for saga in agencies.listed()] == ["t-2", "t-3", "t-1"]
    assert [saga["id"] for saga in agencies.listed("--limit", "1")] == ["t-2"]
    printed, _ = agencies.call("list", "--limit", "2")
    assert len(printed.splitlines()) == 3
    assert agencies.said.startswith("There are more: --limit N")
    agencies.call("list", "--limit", "3")
    assert agencies.said == ""
