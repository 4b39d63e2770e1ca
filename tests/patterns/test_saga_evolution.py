"""A class changes while sagas run that heard of it as it was: each row of the table in docs/contracts.md."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Annotated, Any

import pytest
from tests.patterns.saga_story import SagaStory

from millstream.declare import (
    Alias,
    Command,
    Contract,
    Deprecated,
    Doc,
    Event,
    Number,
    Scale,
    Service,
    Topic,
    Value,
    upcasts,
)
from millstream.errors import DecodeError
from millstream.patterns.saga import Saga, Story

Money = Annotated[Decimal, Scale(18, 4)]
NAMED = ["avro", "protobuf", "json_schema", "cloudevents"]
"""Formats whose records say what they are. A topic of plain JSON has one class, and its records say nothing."""

numbers = count()


class Request(Command, key="id", namespace="evolving"):
    id: str


def request(*, name: str = "Ask", aliases: tuple[str, ...] = (), doc: str = "", **fields: Any) -> Any:
    """The starting command as one version of the code declares it; a field is its annotation, or that and a default."""
    types = {name: found[0] if isinstance(found, tuple) else found for name, found in fields.items()}
    defaults = {name: found[1] for name, found in fields.items() if isinstance(found, tuple)}
    body = {"__annotations__": types, "__module__": __name__, "__doc__": doc} | defaults
    return type(Request)(name, (Request,), body, namespace="evolving", aliases=aliases)


class Version(SagaStory):
    """The saga as one version of the code declares it: its second step tells what it makes of the starting command."""

    def __init__(self, starts: Any, format: Any = "avro") -> None:
        class Look(Request, namespace="evolving"): ...

        class Fact(Event, key="id", namespace="evolving"):
            id: str

        class Looked(Fact, namespace="evolving"): ...

        class Tell(Request, namespace="evolving"):
            heard: str

        class Told(Fact, namespace="evolving"): ...

        class Ended(Fact, namespace="evolving"): ...

        def tell(story: Story) -> Tell:
            return Tell(id=story.id, heard=repr(story[starts]))

        name = f"evolving.{next(numbers)}"
        Topic(f"{name}.starts", starts, format=format, partitions=2)
        Topic(name, Look, Looked, Tell, Told, Ended, partitions=2)
        service = Service("evolving")
        Saga("evolving", starts=starts).step(Look, done=Looked).step(tell, done=Told).completes(Ended).mount(service)
        super().__init__(service, "evolving")
        self.looked = Looked(id="s-1")

    def goes_on(self, before: SagaStory) -> str:
        """What it makes of the starting command that the version before has kept."""
        self.store, self.timers = before.store, before.timers
        (tell,) = self.hear(self.looked)
        return tell.heard


def upcast(change: Callable[[Any], dict[str, Any]], old: Any, **options: Any) -> Callable[[Any], Any]:
    """A version with an upcaster from `old`."""

    def declare(new: Any) -> Any:
        upcasts(new, old, **options)(lambda found: new(**change(found)))
        return new

    return declare


class Old(Value, namespace="evolving", aliases=("Ask",)):
    id: str
    amount: int


ASK = {"amount": int}
FIRST = {"id": "s-1", "amount": 5}
CHANGES: dict[str, tuple[dict[str, Any], Callable[[], Any], str, list[str]]] = {
    "nothing": (ASK, lambda: request(**ASK), "Ask(id='s-1', amount=5)", [*NAMED, "json"]),
    "a field is added": (
        ASK,
        lambda: request(**ASK, currency=(str, "EUR")),
        "Ask(id='s-1', amount=5, currency='EUR')",
        [*NAMED, "json"],
    ),
    "a field is deprecated": (
        ASK,
        lambda: request(amount=Annotated[int, Deprecated("nobody reads it")]),
        "Ask(id='s-1', amount=5)",
        [*NAMED, "json"],
    ),
    "a field is removed": (ASK, lambda: request(), "Ask(id='s-1')", [*NAMED, "json"]),
    "a field is renamed": (ASK, lambda: request(sum=Annotated[int, Alias("amount")]), "Ask(id='s-1', sum=5)", NAMED),
    "the class is renamed": (
        ASK,
        lambda: request(name="Demand", aliases=("Ask",), **ASK),
        "Demand(id='s-1', amount=5)",
        [*NAMED, "json"],
    ),
    "the class had another name": (
        ASK,
        lambda: request(name="Demand", aliases=("Beg", "evolving.Ask"), **ASK),
        "Demand(id='s-1', amount=5)",
        NAMED,
    ),
    "it says what is meant": (
        ASK,
        lambda: request(doc="Somebody asks.", amount=Annotated[int, Doc("in cents")]),
        "Ask(id='s-1', amount=5)",
        [*NAMED, "json"],
    ),
    "numbered fields are removed": (
        {"note": (str, "none"), "amount": int},
        lambda: request(amount=Annotated[int, Number(3)]),
        "Ask(id='s-1', amount=5)",
        ["protobuf"],
    ),
    "numbered fields change places": (
        {"note": (str, "none"), "amount": int},
        lambda: request(amount=Annotated[int, Number(3)], note=Annotated[str, Number(2)]),
        "Ask(id='s-1', amount=5, note='none')",
        ["protobuf"],
    ),
    "an upcaster takes what was written": (
        ASK,
        lambda: upcast(lambda old: {"id": old["id"], "cents": old["amount"] * 100}, "evolving.Ask")(
            request(name="Demand", cents=int)
        ),
        "Demand(id='s-1', cents=500)",
        ["avro", "json_schema", "cloudevents"],
    ),
    "an upcaster takes a class": (
        ASK,
        lambda: upcast(lambda old: {"id": old.id, "cents": old.amount * 100}, Old)(request(cents=int)),
        "Ask(id='s-1', cents=500)",
        NAMED,
    ),
    "an upcaster takes what has a field": (
        ASK,
        lambda: upcast(lambda old: {"id": old["id"], "cents": 7}, "evolving.Ask", having="amount")(request(cents=int)),
        "Ask(id='s-1', cents=7)",
        ["avro", "json_schema", "cloudevents"],
    ),
}


@pytest.mark.parametrize(
    ("change", "format"), [(change, format) for change, found in CHANGES.items() for format in found[3]]
)
def test_a_running_saga_goes_on_after(change: str, format: str):
    fields, declare, expected, _ = CHANGES[change]
    starts = request(**fields)
    before = Version(starts, format)
    before.hear(starts(**FIRST))
    assert Version(declare(), format).goes_on(before) == expected


def test_an_upcaster_gets_decimals_and_datetimes_as_from_the_topic():
    starts = request(amount=Money, at=datetime)
    before = Version(starts)
    before.hear(starts(id="s-1", amount=Decimal("1.5"), at=datetime(2026, 1, 1, tzinfo=UTC)))
    types: list[type] = []

    def change(old: dict[str, Any]) -> dict[str, Any]:
        types.extend(map(type, old.values()))
        return {"id": old["id"], "amount": old["amount"] * 2, "year": old["at"].year}

    after = upcast(change, "evolving.Ask", having="at")(request(amount=Money, year=int))
    assert Version(after).goes_on(before) == "Ask(id='s-1', amount=Decimal('3.0000'), year=2026)"
    assert types == [str, Decimal, datetime]


def test_a_topic_that_changes_its_format():
    starts = request(**ASK)
    before = Version(starts, "avro")
    before.hear(starts(**FIRST))
    assert Version(request(**ASK), "protobuf").goes_on(before) == "Ask(id='s-1', amount=5)"


def test_what_no_rule_leads_from_is_refused_with_the_field():
    starts = request(**ASK)
    before = Version(starts)
    before.hear(starts(**FIRST))
    with pytest.raises(DecodeError, match=r"incompatible_schema.*colour"):
        Version(request(colour=str)).goes_on(before)


def test_replies_and_commands_are_known_under_former_names_too():
    def declare(*, renamed: bool) -> tuple[SagaStory, dict[str, type[Contract]]]:
        def named(name: str, kind: type[Contract], **fields: Any) -> Any:
            aliases = (name,) if renamed else ()
            new = f"New{name}" if renamed else name
            body = {"__annotations__": fields, "__module__": __name__}
            return type(Request)(new, (kind,), body, namespace="evolving", aliases=aliases)

        class Fact(Event, key="id", namespace="evolving"):
            id: str

        price = {"cents": Annotated[int, Alias("price")]} if renamed else {"price": int}
        of: dict[str, Any] = {
            "Ask": named("Ask", Request),
            "Offer": named("Offer", Request),
            "Offered": named("Offered", Fact, **price),
            "Pay": named("Pay", Request, **({"cents": int} if renamed else {"price": int})),
            "Paid": named("Paid", Fact),
            "Ended": named("Ended", Fact, **({"cents": int} if renamed else {"price": int})),
        }
        Topic(f"evolving.{next(numbers)}", *of.values(), partitions=2)
        service = Service("evolving")
        saga = Saga("evolving", starts=of["Ask"]).step(of["Offer"], done=of["Offered"])
        saga.step(of["Pay"], done=of["Paid"]).completes(of["Ended"]).mount(service)
        return SagaStory(service, "evolving"), of

    before, old = declare(renamed=False)
    before.hear(old["Ask"](id="s-1"), old["Offered"](id="s-1", price=5))
    after, new = declare(renamed=True)
    after.store, after.timers = before.store, before.timers
    (ended,) = after.hear(new["Paid"](id="s-1"))
    assert ended == new["Ended"](id="s-1", cents=5)
