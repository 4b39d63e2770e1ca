"""`millstream docs` over whole systems: every application, and systems with each pattern."""

import json
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.patterns.accounts import Accounts
from tests.patterns.trips import Trips, participants

from millstream import Event, Service, System, Timer, Timers, Topic, Value, minutes
from millstream.operate.documents.asyncapi import asyncapi
from millstream.operate.documents.html import html
from millstream.operate.documents.markdown import markdown
from millstream.operate.documents.model import tell
from millstream.operate.place import load_system
from millstream.patterns.view import View

APPLICATIONS = sorted((Path(__file__).parents[3] / "apps").glob("*/system.py"))


def system_of(monkeypatch: pytest.MonkeyPatch, *services: Service) -> System:
    """A system of these services."""
    name = f"d{uuid.uuid4().hex[:8]}"
    module = ModuleType(name)
    places = {service.name.replace("-", "_"): service for service in services}
    vars(module).update(places)
    monkeypatch.setitem(sys.modules, name, module)
    return System("documented", services=[f"{name}:{place}" for place in places])


def documents(system: System) -> tuple[dict[str, Any], str]:
    """AsyncAPI and the catalogue. All of it can be written."""
    told = tell(system)
    assert html(told).endswith("</html>\n")
    document = asyncapi(told, "1.0.0")
    json.dumps(document)
    return document, markdown(told)


@pytest.mark.parametrize("place", APPLICATIONS, ids=lambda place: place.parent.name)
def test_every_application_is_documented(place: Path):
    system = load_system(f"{place.parent.name}.system:system")
    document, catalogue = documents(system)
    topics = {topic.name for service in system.services() for topic in service.consumed()}
    assert topics <= document["channels"].keys()
    assert all(f"## `{topic}`" in catalogue for topic in topics)


def test_a_timer_is_on_no_topic_and_its_service_is_documented(monkeypatch: pytest.MonkeyPatch):
    class Parked(Event, key="plate"):
        plate: str

    class TimeIsUp(Timer, key="plate"):
        plate: str

    class Fined(Event, key="plate"):
        plate: str

    Topic("docs.parked", Parked)
    Topic("docs.fines", Fined)
    garage = Service("garage")

    @garage.on(Parked)
    def park(parked: Parked, timers: Timers) -> None:
        timers.set(TimeIsUp(plate=parked.plate), after=minutes(30))

    @garage.on(TimeIsUp)
    def fine(over: TimeIsUp) -> Fined:
        return Fined(plate=over.plate)

    document, catalogue = documents(system_of(monkeypatch, garage))
    assert document["operations"].keys() == {
        "garage.receive.docs.parked",
        "garage.send.docs.fines",
    }
    assert "sent by `garage.fine`" in catalogue


def test_a_saga_and_its_participants_are_documented(monkeypatch: pytest.MonkeyPatch):
    trips = Trips(f"s{uuid.uuid4().hex[:8]}")
    others = participants(trips)
    document, catalogue = documents(system_of(monkeypatch, trips.service, others))
    sent = document["operations"][f"{trips.service.name}.send.{trips.commands.name}"]
    assert "BookFlight" in {message["$ref"].rpartition("/")[2] for message in sent["messages"]}
    assert f"received by `{others.name}.BookFlight`" in catalogue


def test_an_aggregate_and_a_view_are_documented(monkeypatch: pytest.MonkeyPatch):
    class Weighed(Event, key="parcel"):
        parcel: str
        grams: int

    class Row(Value):
        heaviest: int

    Topic("docs.weights", Weighed)
    view = View("parcels", Row, topic="docs.parcels")

    @view.on(Weighed)
    def weighed(event: Weighed, row: Row | None) -> Row:
        return Row(heaviest=max(event.grams, row.heaviest if row else 0))

    scale = Service("scale")
    view.mount(scale)
    accounts = Accounts(f"d{uuid.uuid4().hex[:8]}")
    document, catalogue = documents(system_of(monkeypatch, scale, accounts.service))
    assert "scale.receive.docs.weights" in document["operations"]
    assert f"## `{accounts.events.name}`" in catalogue
