"""Misuse that would fail at run time, or in silence, is refused at import: with what, where and the remedy."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Protocol, TypeVar

import pydantic
import pytest

from millstream import (
    FOREVER,
    Command,
    Event,
    Retry,
    Scale,
    Service,
    Store,
    System,
    Timer,
    Topic,
    Value,
    days,
    exponential,
    hours,
    minutes,
    seconds,
)
from millstream.declare import Contract, Kind
from millstream.errors import DeclarationError
from millstream.patterns.aggregate import Aggregate, decides, evolves
from millstream.patterns.saga import Saga
from millstream.patterns.view import View


class OrderEvent(Event, key="order_id"):
    order_id: str


class Placed(OrderEvent): ...


class Paid(OrderEvent): ...


class Shipped(OrderEvent): ...


class Charge(Command, key="order_id"):
    order_id: str


class Overdue(Timer, key="order_id"):
    order_id: str


class Row(Value):
    order_id: str


class Model(pydantic.BaseModel):
    order_id: str


class Gateway: ...


placed = Topic("misuse.placed", Placed, Paid)
commands = Topic("misuse.commands", Charge, retention=days(7))
shipped = Topic("misuse.shipped", Shipped, retention=FOREVER)


def refused(match: str):
    return pytest.raises(DeclarationError, match=match)


# Signatures


def test_a_forgotten_return_annotation():
    service = Service("misuse")
    with refused(r"^ship has no return annotation, .* write -> OrderShipped \| OrderRefused, or -> None"):

        @service.on(Placed)
        def ship(order: Placed):
            return Shipped(order_id=order.order_id)

    with refused("^charge has no return annotation"):

        @service.effect(Charge)
        async def charge(command: Charge): ...

    @service.on(Paid, publishes=(Shipped,))
    def told_by_publishes(paid: Paid): ...

    assert service.produced() == (Shipped,)


T = TypeVar("T", bound=OrderEvent)


class HasId(Protocol):
    order_id: str


def test_a_parameter_of_another_class_than_is_sent():
    service = Service("misuse")
    with refused(r"^take is registered for Placed, and its first parameter takes Paid: name the same classes in both"):

        @service.on(Placed)
        def take(paid: Paid) -> None: ...

    with refused(r"^take is registered for Paid, and its first parameter takes Placed"):

        @service.on(Placed, Paid)
        def take(event: Placed) -> None: ...

    with refused(r"^take takes Paid, which it is not registered for, so it never comes: add it to the decorator"):

        @service.on(Placed)
        def take(event: Placed | Paid) -> None: ...

    with refused(r"first parameter takes str"):

        @service.on(Placed)
        def take(event: str) -> None: ...

    with refused(r"^row is registered for Placed, and its first parameter takes Paid"):

        @View("rows", Row, topic="misuse.rows").on(Placed)
        def row(event: Paid, row: Row | None) -> Row: ...


@pytest.mark.parametrize("annotation", [OrderEvent, Event, Contract, Any, object, Placed | Paid, T, HasId, None])
def test_a_parameter_that_takes_all_that_is_sent(annotation: Any):
    def take(event) -> None: ...

    if annotation is not None:
        take.__annotations__["event"] = annotation
    Service("misuse").on(Placed, Paid)(take)


def test_parameters_that_cannot_be_given_by_their_place():
    service = Service("misuse")
    with refused(r"^take: parameter gateway: .*Gateway cannot be filled: .* Drop the `\*`"):

        @service.on(Placed)
        def take(event: Placed, *, gateway: Gateway) -> None: ...

    with refused(r"^take: parameter \*more"):

        @service.on(Placed)
        def take(event: Placed, *more: Gateway) -> None: ...


def test_what_is_no_plain_function():
    service = Service("misuse")
    with refused(r"<class '.*Gateway'> is no function: write a handler with `def`"):
        service.on(Placed)(Gateway)
    with refused(r"^charge is an async generator, .*: return them, as a list"):

        @service.effect(Charge)
        async def charge(command: Charge) -> AsyncIterator[Paid]:
            yield Paid(order_id=command.order_id)

    with refused(r"^row is async: a projection is a plain function"):

        @View("rows", Row, topic="misuse.rows").on(Placed)
        async def row(event: Placed, row: Row | None) -> Row: ...


@pytest.mark.parametrize("how", ["on", "effect"])
def test_a_decorator_without_its_event(how: str):
    def take(event: Placed) -> None: ...

    decorate: Any = getattr(Service("misuse"), how)
    with refused(rf"^@misuse\.{how} over take names no event class: write @misuse\.{how}\(TheEvent\)"):
        decorate(take)
    view: Any = View("rows", Row, topic="misuse.rows")
    with refused(r"^View 'rows': @on over take names no event class"):
        view.on(take)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Model, r"Model is no event or command: derive it from millstream\.Event or millstream\.Command"),
        (Row, r"Row is no event or command"),
        (placed, r"Topic\('misuse\.placed'\) is no class; name event classes"),
        (Placed(order_id="o-1"), r"Placed is no class"),
        ("Placed", r"'Placed' is no class"),
        (Event, r"names a bare Event: name the classes"),
        (Timer, r"names a bare Timer"),
    ],
)
def test_what_is_no_event_class(given: Any, message: str):
    with refused(rf"^@misuse\.on\(…\).*{message}"):
        Service("misuse").on(given)
    with refused(rf"^View 'rows': @on\(…\).*{message}"):
        View("rows", Row, topic="misuse.rows").on(given)
    with refused(rf"^Service 'misuse': publishes=.*{message}"):
        Service("misuse", publishes=[given])
    with refused(rf"^Topic 'misuse\.other'.*{message}"):
        Topic("misuse.other", given)
    with refused(rf"^Saga 'misuse': starts=.*{message}"):
        Saga("misuse", starts=given)
    with refused(rf"^Saga 'misuse', step Charge: its answers.*{message}"):
        Saga("misuse", starts=Placed).step(Charge, done=given)

    def take(event) -> None: ...

    with refused(rf"^take: publishes=.*{message}"):
        Service("misuse").on(Placed, publishes=(given,))(take)


def test_one_class_where_several_may_stand():
    publishes: Any = Paid
    with refused(r"^take: publishes=Paid is one class: write publishes=\(Paid,\)"):

        @Service("misuse").on(Placed, publishes=publishes)
        def take(event: Placed): ...


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": 3}, r"retry=3 is no Retry: write retry=Retry\(attempts=3\)"),
        ({"on_failure": "park_key"}, r"on_failure='park_key': take millstream\.dead_letter"),
        ({"timeout": 10}, r"timeout=10 is no timedelta: write timeout=seconds\(10\)"),
        ({"timeout": seconds(0)}, r"timeout=.* is over before it begins"),
        ({"concurrency": 0}, r"concurrency=0 would never call anything"),
    ],
)
def test_options_of_an_effect(options: dict[str, Any], message: str):
    with refused(rf"^@misuse\.effect\(…\): {message}"):
        Service("misuse").effect(Charge, **options)


def test_options_of_other_declarations():
    inbox: Any = 60
    with refused(r"inbox=60 is no timedelta"):
        Service("misuse").on(Placed, inbox=inbox)
    backoff: Any = 0.5
    with refused(r"Retry\(backoff=0\.5\) is no function .*: write backoff=exponential\(0\.5\)"):
        Retry(backoff=backoff)
    within: Any = 5
    with refused(r"Retry\(within=5\) is no timedelta"):
        Retry(within=within)
    on: Any = ("TimeoutError",)
    with refused(r"Retry\(on=…\) lists 'TimeoutError', which is no class of errors"):
        Retry(on=on)
    other: Any = "xml"
    with refused(r"Topic 'misuse\.other': format='xml'; it is one of 'avro', "):
        Topic("misuse.other", format=other)
    with refused(r"subjects='xml'; it is one of"):
        Topic("misuse.other", subjects=other)
    with refused(r"tombstones='xml'; it is one of 'handle', 'skip', 'refuse'"):
        Topic("misuse.other", tombstones=other)
    with refused(r"delivery='xml'; it is one of 'exactly_once', 'at_least_once'"):
        Service("misuse", delivery=other)
    with refused(r"web='orders\.web' names no factory: write web=\"module:function\""):
        Service("misuse", web="orders.web")
    retention: Any = 7
    with refused(r"retention=7 is no timedelta"):
        Topic("misuse.other", retention=retention)
    with refused(r"retention=.* is over before it begins"):
        Topic("misuse.other", retention=days(-1))


@pytest.mark.parametrize("decorator", ["on", "effect"])
@pytest.mark.parametrize(
    ("retry", "allowed"),
    [
        (Retry(attempts=None, within=days(7)), False),
        (Retry(attempts=None, within=timedelta.max), False),
        (Retry(attempts=None, within=days(6)), True),
        (Retry(attempts=10, within=days(30)), True),
        (Retry(attempts=10, backoff=exponential(86_400, factor=1, limit=86_400), within=days(30)), False),
        (Retry(attempts=7, backoff=exponential(86_400, factor=1, limit=86_400), within=days(30)), True),
    ],
)
def test_retries_that_outlast_the_retention_of_their_event(decorator: str, retry: Retry, allowed: bool):
    def keep(command: Charge) -> None: ...

    async def charge(command: Charge) -> None: ...

    function: Any = keep if decorator == "on" else charge
    register: Any = getattr(Service("misuse"), decorator)(Charge, retry=retry)
    if allowed:
        register(function)
    else:
        with refused(rf"^{function.__name__} may try an event for .* Topic 'misuse\.commands' keeps it for 7 days"):
            register(function)


def test_retries_of_an_event_that_is_kept_for_ever():
    @Service("misuse").effect(Shipped, retry=Retry(attempts=None, within=timedelta.max))
    async def insure(shipped: Shipped) -> None: ...


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orders/events", r"'/' is none of them"),
        ("orders events", r"' ' is none of them"),
        ("bestellungen.für", r"'ü' is none of them"),
        ("orders\n", r"'\\n' is none of them"),
        ("", r"'' is no name for Kafka"),
        (".", r"'\.' is no name for Kafka"),
        ("..", r"'\.\.' is no name for Kafka"),
        ("o" * 250, r"its name has 250 characters; give it one of 249 at most"),
        (None, r"its name is None: give it a text"),
    ],
)
def test_names_that_kafka_does_not_take(name: Any, message: str):
    with refused(message):
        Topic(name)
    with refused(message):
        Service(name)
    with refused(message):
        Store(name, Row)
    with refused(message):
        View(name, Row, topic="misuse.rows")
    with refused(message):
        View("rows", Row, topic=name)
    with refused(message):
        Saga(name, starts=Placed)
    if name is not None:
        with refused(message):
            Service("misuse", group=name)
        with refused(message):
            Store("rows", Row, topic=name)


def test_a_name_that_is_too_long_for_what_is_made_of_it():
    with refused("its name has 246 characters; give it one of 245 at most"):
        Topic("o" * 246, type("Long", (OrderEvent,), {}))
    Topic("o" * 245, type("Short", (OrderEvent,), {}))
    service = Service("o" * 240)

    @service.on(Placed)
    def take(event: Placed) -> None: ...

    with refused(r"an internal topic of group 'oo.*: its name has 254 characters"):
        service.check()


def test_topics_that_differ_in_dots_and_underscores_alone():
    class First(OrderEvent): ...

    class Second(OrderEvent): ...

    Topic("misuse.in.stock", First)
    Topic("misuse.in_stock", Second)
    service = Service("misuse")

    @service.on(First, Second)
    def take(event: First | Second) -> None: ...

    with refused(r"'misuse\.in_stock' and .*'misuse\.in\.stock' differ in '\.' and '_' alone.* rename one"):
        service.check()


def test_one_topic_declared_twice():
    class First(OrderEvent): ...

    class Second(OrderEvent): ...

    Topic("misuse.twice", First)
    Topic("misuse.twice", Second)
    service = Service("misuse")

    @service.on(First, Second)
    def take(event: First | Second) -> None: ...

    with refused(r"two declarations of 'misuse\.twice': .* Declare it once and import it, or rename one"):
        service.check()


def test_two_classes_of_one_name_on_a_topic():
    class Same(OrderEvent, namespace="misuse"): ...

    class Renamed(OrderEvent, namespace="misuse", aliases=("Same",)): ...

    with refused(r"two of its classes are called misuse\.Same"):
        Topic("misuse.same", Same, Renamed)


def test_two_stores_of_one_name():
    from typing import Annotated

    from millstream import State

    first, second = Store("rows", Row), Store("rows", Row)
    service = Service("misuse")

    @service.on(Placed)
    def one(event: Placed, rows: Annotated[State[Row], first]) -> None: ...

    @service.on(Paid)
    def two(event: Paid, rows: Annotated[State[Row], second]) -> None: ...

    with refused(r"two declarations of 'misuse\.rows\.changelog'"):
        service.check()


MODULE = """
from millstream import *
class {event}(Event, key="id"):
    id: str
topic = Topic("{topic}", {event})
{service} = Service("{service}", group={group!r})
@{service}.on({event})
def take(event: {event}) -> None: ...
"""


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (("a.topic", None), ("a.topic", None), r"two declarations of 'a\.topic'"),
        (("a.topic", None), ("a_topic", None), r"differ in '\.' and '_' alone"),
        (("a.topic", "shared"), ("b.topic", "shared"), r"one and two are both in group 'shared'"),
    ],
)
def test_what_only_the_whole_system_shows(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, ours: Any, theirs: Any, message: str
):
    name = f"misuse_{abs(hash((ours, theirs)))}"
    for part, event, (topic, group) in (("one", "One", ours), ("two", "Two", theirs)):
        text = MODULE.format(event=event, topic=topic, service=part, group=group)
        (tmp_path / f"{name}_{part}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    system = System("misuse", services=[f"{name}_one:one", f"{name}_two:two"])
    assert system.service("one").group(Kind.KAFKA)
    with refused(message):
        system.services()


# Patterns


def test_a_view_that_would_not_run():
    view = View("rows", Row, topic="misuse.rows")
    with refused(r"^View 'rows' has no handler: register one with @on\(TheEvent\)"):
        view.mount(Service("misuse"))

    @view.on(Placed)
    def created(event: Placed, row: Row | None) -> Row: ...

    view.mount(Service("misuse"))
    with refused(r"^View 'rows': @on\(…\): the view is mounted on misuse already"):
        view.on(Paid)
    with refused(r"^View 'rows' is mounted on misuse already"):
        view.mount(Service("another"))
    with refused(r"^wrong must return Row, or None"):

        @View("rows", Row, topic="misuse.rows").on(Placed)
        def wrong(event: Placed, row: Row | None) -> Row | Placed: ...


def test_a_saga_that_is_changed_after_it_was_mounted():
    saga = Saga("misuse", starts=Placed).step(Charge, done=Paid).completes(Shipped)
    saga.mount(Service("misuse"))
    with refused(r"^Saga 'misuse': \.step\(…\) comes after it was mounted on misuse"):
        saga.step(Charge, done=Paid)
    for change in (saga.begins, saga.completes, saga.cancels):
        with refused(rf"\.{change.__name__}\(…\) comes after"):
            change(Shipped)


def test_an_aggregate_under_a_name_that_kafka_does_not_take():
    class Book(Aggregate):
        charged: bool = False

        @decides
        def charge(self, command: Charge) -> Shipped: ...

        @evolves
        def sent(self, event: Shipped) -> "Book": ...

    with refused(r"^Book: name 'a book': .* ' ' is none of them"):
        Book.mount(Service("misuse"), name="a book")


def test_a_resource_that_cannot_be_opened_or_is_made_twice():
    service = Service("misuse")
    with refused(r"^gateway must be an async generator: write it as async def, and yield the Gateway once"):

        @service.provides
        async def gateway(settings: Any) -> AsyncIterator[Gateway]: ...

    @service.provides
    async def one(settings: Any) -> AsyncIterator[Gateway]:
        yield Gateway()

    with refused(r"^misuse: one and two both provide Gateway; make them one"):

        @service.provides
        async def two(settings: Any) -> AsyncIterator[Gateway]:
            yield Gateway()


def test_what_is_long_is_no_misuse():
    assert Retry(attempts=None, within=hours(2)).longest() == hours(2)
    assert Retry(attempts=None, backoff=lambda failures: 0.0, within=minutes(1)).longest() == minutes(1)
    assert Retry(attempts=1, within=hours(2)).longest() == timedelta(0)


class Unrelated:
    """A class of somebody else."""


class Inner(Value):
    factor: complex


class Left(Value):
    x: int


class Right(Value):
    x: int


def _event(annotation: Any) -> Any:
    body = {"__annotations__": {"order_id": str, "it": annotation}, "__module__": __name__}
    return type(Event)("Odd", (Event,), body, key="order_id")


SCHEMAS: tuple[Any, ...] = ("avro", "protobuf", "json_schema", "cloudevents")
LISTED = "use str, int, bool, float, bytes, Decimal"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (complex, rf"^Odd\.it: no schema can say complex; {LISTED}"),
        (Unrelated, rf"^Odd\.it: no schema can say Unrelated; {LISTED}"),
        (list[Unrelated], r"^Odd\.it: no schema can say Unrelated; "),
        (dict[str, tuple[Unrelated | None, ...]], r"^Odd\.it: no schema can say Unrelated; "),
        (tuple[Inner, ...], r"^Inner\.factor: no schema can say complex; "),
        (Model, r"^Odd\.it: no schema can say Model; "),
        (Decimal, r"^Odd\.it: no schema can say Decimal without a scale; write Annotated\[Decimal, Scale\(18, 4\)\]"),
        (Any, r"^Odd\.it: no schema can say Any; name the type"),
        (dict[int, str], r"^Odd\.it: no schema can say dict; .*use dict\[str, …\]"),
        (tuple, r"^Odd\.it: no schema can say tuple; say what it holds"),
        (Callable[[], int], r"^Odd\.it: no schema can say .*Callable"),
        ("Nowhere", r"^Odd\.it: name 'Nowhere' is not defined\. Declare or import that class"),
        (list["Nowhere"], r"^Odd\.it: name 'Nowhere' is not defined"),  # type: ignore[name-defined] # noqa: F821
    ],
)
def test_a_field_that_no_schema_can_hold(annotation: Any, message: str):
    for format in SCHEMAS:
        with refused(message):
            Topic("misuse.odd", _event(annotation), format=format)

    with refused(message):
        Store("odd", _event(annotation))
    with refused(message):
        View("odd", _event(annotation), topic="misuse.odd")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (complex, rf"^Odd\.it: no JSON is read as complex; {LISTED}"),
        (dict[str, list[Unrelated]], r"^Odd\.it: no JSON is read as Unrelated; "),
        (tuple[Inner, ...], r"^Inner\.factor: no JSON is read as complex; "),
        (Model, r"^Odd\.it: no JSON is read as Model; "),
        (Left | Right, r"^Odd\.it: JSON cannot hold it: .*Left.*Right"),
        ("Nowhere", r"^Odd\.it: name 'Nowhere' is not defined\. Declare or import that class"),
    ],
)
def test_a_field_that_plain_json_cannot_hold(annotation: Any, message: str):
    with refused(message):
        Topic("misuse.odd", _event(annotation), format="json")


@pytest.mark.parametrize("annotation", [Any, dict[str, Any], Decimal, dict[int, str], list[dict[str, Any]]])
def test_plain_json_takes_what_schemas_do_not(annotation: Any):
    assert Topic("misuse.odd", _event(annotation), format="json").format == "json"


class Priced(Value):
    amount: Annotated[Decimal, Scale(6, 2)] = Decimal("1.234")


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (int, "7", r"^Odd\.it: the default: '7' is no int"),
        (datetime, datetime(2026, 1, 1), r"^Odd\.it: the default: .* has no time zone"),
        (str, None, r"^Odd\.it: the default: None is no str"),
        (tuple[Priced, ...], (), r"^Priced\.amount: the default: .* has 3 digits after the point, and its scale is 2"),
    ],
)
def test_a_default_that_its_field_cannot_hold(annotation: Any, default: Any, message: str):
    body = {"__annotations__": {"order_id": str, "it": annotation}, "__module__": __name__, "it": default}
    for format in SCHEMAS:
        with refused(message):
            Topic("misuse.odd", type(Event)("Odd", (Event,), dict(body), key="order_id"), format=format)  # type: ignore[call-arg]
    with refused(message):
        Store("odd", type(Event)("Odd", (Event,), dict(body), key="order_id"))  # type: ignore[call-arg]


def test_a_field_that_a_timer_cannot_keep():
    class Late(Timer, key="order_id"):
        order_id: str
        factor: Unrelated

    with refused(r"^Late\.factor: no MessagePack is read as Unrelated; "):
        Service("misuse").on(Late)


def test_a_forward_reference_that_resolves():
    """A class that holds itself, and one that is declared below it and above the topic."""
    assert Topic("misuse.trees", Grown).contracts == (Grown,)


class Grown(Event, key="order_id"):
    order_id: str
    tree: "Tree"


class Tree(Value):
    branches: "tuple[Tree, ...]" = ()
