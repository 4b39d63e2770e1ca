"""A saga of three steps, with names of its own for each test: a trip is booked, or all of it is taken back."""

from typing import Any

from millstream.declare import Command, Event, Service, Topic, exponential, minutes
from millstream.patterns.saga import Saga, Story, Undo


class Trips:
    """The declarations. A hotel can say no; a flight and a car can be taken back; money cannot."""

    def __init__(self, name: str, **options: Any) -> None:
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
        within = options.pop("within", minutes(1))
        self.saga = (
            Saga("trips", starts=BookTrip, attempts=3, backoff=exponential(0.1))
            .step(
                BookFlight,
                done=FlightBooked,
                failed=FlightRefused,
                undo=Undo(CancelFlight, done=FlightCancelled, failed=FlightNotCancelled, within=within),
                within=within,
            )
            .step(
                BookHotel,
                done=HotelBooked,
                failed=HotelRefused,
                undo=Undo(CancelHotel, done=HotelCancelled, within=within),
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
