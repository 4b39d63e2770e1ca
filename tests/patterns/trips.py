"""A saga of three steps, with names of its own for each test: a trip is booked, or all of it is taken back."""

import json
import sys
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import Command, Event, Service, Topic, exponential, home_of, minutes
from millstream.kafka import connect
from millstream.operate.assembly import topics_of
from millstream.patterns.saga import Saga, Story, Undo
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

ROOT = Path(__file__).parents[2]


class Trips:
    """The declarations. A flight and a hotel can be taken back; money cannot."""

    def __init__(self, name: str, undo_within: timedelta | None = None) -> None:
        class Order(Command, key="trip", namespace="test"):
            trip: str

        class BookTrip(Order, namespace="test"):
            city: str

        class BookFlight(Order, namespace="test"):
            city: str

        class CancelFlight(Order, namespace="test"):
            reason: str | None = None

        class BookHotel(Order, namespace="test"):
            city: str
            seat: str

        class CancelHotel(Order, namespace="test"): ...

        class Pay(Order, namespace="test"):
            price: int

        class Fact(Event, key="trip", namespace="test"):
            trip: str

        class FlightBooked(Fact, namespace="test"):
            seat: str = "1A"

        class FlightRefused(Fact, namespace="test"): ...

        class FlightCancelled(Fact, namespace="test"): ...

        class FlightNotCancelled(Fact, namespace="test"): ...

        class HotelBooked(Fact, namespace="test"):
            price: int = 100

        class HotelRefused(Fact, namespace="test"):
            reason: str = "full"

        class HotelCancelled(Fact, namespace="test"): ...

        class Paid(Fact, namespace="test"): ...

        class PaymentRefused(Fact, namespace="test"):
            reason: str = "no money"

        class TripBooked(Fact, namespace="test"):
            seat: str

        class TripCancelled(Fact, namespace="test"):
            reason: str

        def pay(story: Story) -> Pay:
            return Pay(trip=story.id, price=story[HotelBooked].price * 2)

        self.of = {found.__name__: found for found in locals().values() if isinstance(found, type)}
        self.requests = Topic(f"{name}.requests", BookTrip, partitions=2)
        self.commands = Topic(f"{name}.commands", BookFlight, CancelFlight, BookHotel, CancelHotel, Pay, partitions=2)
        self.replies = Topic(
            f"{name}.replies",
            *(FlightBooked, FlightRefused, FlightCancelled, FlightNotCancelled, HotelBooked, HotelRefused),
            *(HotelCancelled, Paid, PaymentRefused),
            partitions=2,
        )
        self.ends = Topic(f"{name}.ends", TripBooked, TripCancelled, partitions=2)
        within = minutes(1)
        undo_within = undo_within or within
        self.saga = (
            Saga("trips", starts=BookTrip, attempts=3, backoff=exponential(0.1))
            .step(
                BookFlight,
                done=FlightBooked,
                failed=FlightRefused,
                undo=Undo(CancelFlight, done=FlightCancelled, failed=FlightNotCancelled, within=undo_within),
                within=within,
            )
            .step(
                BookHotel,
                done=HotelBooked,
                failed=HotelRefused,
                undo=Undo(CancelHotel, done=HotelCancelled, within=undo_within),
                within=within,
            )
            .step(pay, done=Paid, failed=PaymentRefused, within=within)
            .completes(TripBooked)
            .cancels(TripCancelled)
        )
        self.service = Service(f"{name}-agency")
        self.saga.mount(self.service)
        self.service.check()

    def __getattr__(self, name: str) -> Any:
        """A class by its name."""
        try:
            return self.__dict__["of"][name]
        except KeyError:
            raise AttributeError(name) from None


def participants(trips: Trips) -> Service:
    """Who carries the commands out: no hotel for trips that are called `full…`, no money for those called `poor…`."""
    of, service = trips.of, Service(f"{trips.service.name}-participants")

    def answer(command: str, *facts: str) -> None:
        def carry_out(asked: Any) -> Any:
            refused = (command == "BookHotel" and asked.trip.startswith("full")) or (
                command == "Pay" and asked.trip.startswith("poor")
            )
            silent = command == "CancelFlight" and asked.trip.endswith("silent")
            return None if silent else of[facts[-1] if refused else facts[0]](trip=asked.trip)

        carry_out.__name__ = command
        service.on(of[command], publishes=tuple(of[fact] for fact in facts))(carry_out)

    answer("BookFlight", "FlightBooked")
    answer("CancelFlight", "FlightCancelled")
    answer("BookHotel", "HotelBooked", "HotelRefused")
    answer("CancelHotel", "HotelCancelled")
    answer("Pay", "Paid", "PaymentRefused")
    return service


class TripsRig:
    """The saga and its participants on one cluster."""

    def __init__(self, bootstrap: str, registry: str, name: str | None = None, **options: Any) -> None:
        self.name = name or f"s{uuid.uuid4().hex[:8]}"
        self.trips = Trips(self.name, **options)
        self.others = participants(self.trips)
        self.bootstrap, self.registry = bootstrap, registry
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            registry_url=registry,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )
        self.kafka = connect(self.settings, self.name)
        self.contracts = Contracts(Registry(registry))
        self._producer = self.kafka.producer()

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics([*topics_of(self.trips.service), *topics_of(self.others)])
        admin.close()
        self.contracts.register([self.trips.BookTrip])

    def worker(self, service: Service) -> KafkaWorker:
        return KafkaWorker(service, self.settings, self.contracts, self.kafka)

    def child(self, output: Path) -> Popen[bytes]:
        """The saga's service in a process of its own."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.patterns.trips import main; main()"
        arguments = json.dumps([self.bootstrap, self.registry, self.name])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def send(self, *events: Any) -> None:
        for event in events:
            id = edge_id()
            headers = header_writer(type(event), "test")(id, id, None, None)
            self.contracts.register([type(event)])
            topic = home_of(type(event)).name
            self._producer.produce(topic, self.contracts.encode(event), event.trip.encode(), headers)
        self._producer.flush()

    def said(self, topic: Topic) -> dict[str, list[str]]:
        """The names of what was said of each trip, in order."""
        decode = self.contracts.decoder([topic]).decode
        found: dict[str, list[str]] = {}
        for batch in self.kafka.read_to_end(topic.name, timeout=20):
            for message in batch:
                event = decode(message.value())
                found.setdefault(event.trip, []).append(type(event).__name__)
        return found

    def wait_for_ends(self, wanted: dict[str, list[str]], seconds: float = 120) -> None:
        ends = self.trips.ends
        wait_until(lambda: self.said(ends) == wanted, seconds=seconds, what="all trips to end", every=0.1)

    def close(self) -> None:
        self._producer.close()


def main() -> None:
    bootstrap, registry, name = json.loads(sys.argv[1])
    rig = TripsRig(bootstrap, registry, name)
    rig.worker(rig.trips.service).run(threading.Event())
