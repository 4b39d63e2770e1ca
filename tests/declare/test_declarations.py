"""Declarations that cannot work are refused where they are made, with the remedy."""

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated

import pytest
from sqlalchemy.orm import Session

import millstream
from millstream import Call, Command, Envelope, Event, Rejected, Retry, Service, State, Store, System, Topic, Value
from millstream.declare import Kind, Need, exponential, home_of, key_of, load
from millstream.errors import DeclarationError, RegistryUnavailable


class Placed(Event, key="order_id"):
    order_id: str


class Paid(Event, key="order_id"):
    order_id: str
    amount: int = 0


class Charge(Command, key="order_id"):
    order_id: str


class Homeless(Event, key="order_id"):
    order_id: str


class Parcel(Value):
    weight: int


class Gateway: ...


placed = Topic("declarations.placed", Placed, Charge)
paid = Topic("declarations.paid", Paid, partitions=12)
PARCELS = Store("parcels", Parcel)


def test_public_names_are_exported():
    for name in millstream.__all__:
        getattr(millstream, name)
    public = {name for name, value in vars(millstream).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public == set(millstream.__all__)


def test_the_package_imports_its_parts_when_they_are_asked_for():
    code = "import sys, millstream; print('msgspec' in sys.modules); millstream.Event; print('msgspec' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert printed.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        _ = millstream.Evnt  # pyright: ignore[reportAttributeAccessIssue]


def test_an_event_is_frozen_and_keyed():
    event = Paid(order_id="o-1", amount=3)
    with pytest.raises(AttributeError):
        event.amount = 4  # pyright: ignore[reportAttributeAccessIssue] the point of the test
    assert key_of(event) == "o-1"
    assert home_of(Paid) is paid


def test_an_event_has_one_home():
    with pytest.raises(DeclarationError, match=r"already lives on 'declarations\.placed'"):
        Topic("declarations.other", Placed)


def test_a_key_must_exist_and_be_text():
    class NoKey(Event):
        order_id: str

    class WrongKey(Event, key="id"):
        order_id: str

    class NumberKey(Event, key="number"):
        number: int

    for contract, says in ((NoKey, "has no key"), (WrongKey, "no such field"), (NumberKey, "must be a str")):
        with pytest.raises(DeclarationError, match=says):
            Topic("declarations.keys", contract)


def test_the_kind_of_a_handler_is_read_from_its_signature():
    service = Service("kinds")

    @service.on(Placed)
    def in_kafka(event: Placed, parcels: Annotated[State[Parcel], PARCELS], envelope: Envelope) -> Paid | None: ...

    @service.on(Charge)
    def in_sql(event: Charge, db: Session) -> list[Paid]: ...

    @service.effect(Paid)
    async def outside(event: Paid, call: Call, gateway: Gateway) -> None: ...

    kafka, sql, effect = service.handlers
    assert (kafka.kind, sql.kind, effect.kind) == (Kind.KAFKA, Kind.SQL, Kind.EFFECT)
    assert [parameter.need for parameter in kafka.parameters] == [Need.EVENT, Need.STATE, Need.ENVELOPE]
    assert kafka.stores == (PARCELS,)
    assert kafka.produces == sql.produces == (Paid,)
    assert service.group(Kind.SQL) == "kinds.sql"
    with pytest.raises(DeclarationError, match="gateway: Gateway"):
        service.check()

    @service.provides
    async def gateway(settings: object) -> AsyncIterator[Gateway]:
        yield Gateway()

    service.check()


def test_misuse_is_refused_with_the_remedy():
    service = Service("misuse")

    def bare(event: Placed) -> Event: ...
    def homeless(event: Placed) -> Iterable[Homeless]: ...
    def nothing() -> None: ...
    def both(event: Placed, db: Session, parcels: Annotated[State[Parcel], PARCELS]) -> None: ...
    def unnamed(event: Placed, parcels: State[Parcel]) -> None: ...
    def calls(event: Placed, call: Call) -> None: ...
    async def asynchronous(event: Placed) -> None: ...

    for handler, says in (
        (bare, "bare Event"),
        (homeless, "lives on no topic"),
        (nothing, "takes no parameter"),
        (both, "cannot commit together"),
        (unnamed, "which store"),
        (calls, "only effects have"),
        (asynchronous, "belong in an effect"),
    ):
        with pytest.raises(DeclarationError, match=says):
            service.on(Placed)(handler)
    with pytest.raises(DeclarationError, match="async def"):
        service.effect(Placed)(bare)
    with pytest.raises(DeclarationError, match="names no event"):
        service.on()
    assert service.handlers == []


def test_two_handlers_of_one_kind_do_not_share_a_class():
    service = Service("twice")

    @service.on(Placed)
    def first(event: Placed) -> None: ...

    with pytest.raises(DeclarationError, match="both handle Placed"):

        @service.on(Placed)
        def second(event: Placed) -> None: ...


def test_a_store_wants_topics_with_the_same_partitions():
    service = Service("unlike")

    @service.on(Placed, Paid)
    def join(event: Placed | Paid, parcels: Annotated[State[Parcel], PARCELS]) -> None: ...

    with pytest.raises(DeclarationError, match="unlike partition counts"):
        service.check()


def test_retry_asks_the_error():
    retry = Retry(attempts=3, backoff=exponential(1.0))
    assert retry.allows(RegistryUnavailable("…"), failures=1, elapsed=0)
    assert not retry.allows(RegistryUnavailable("…"), failures=3, elapsed=0)
    assert not retry.allows(RegistryUnavailable("…"), failures=1, elapsed=59.5)
    assert not retry.allows(Rejected("too heavy"), failures=1, elapsed=0)
    assert not retry.allows(ValueError(), failures=1, elapsed=0)
    assert Retry(on=(ValueError,)).allows(ValueError(), failures=1, elapsed=0)


def test_a_system_imports_a_service_by_name():
    system = System("shop", services=["no.such.module:nothing"])
    with pytest.raises(DeclarationError, match="has no service 'other'; it has nothing"):
        system.service("other")
    with pytest.raises(DeclarationError, match="is the folder that holds it on the path"):
        system.service("nothing")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def app(:\n  pass\n", r"SyntaxError: invalid syntax\n  .*broken_code.py:1\n    def app\(:"),
        ("\nx = y\n", r"NameError: name 'y' is not defined\n  .*broken_code.py:2\n    x = y"),
        ("import json\njson.loads('{')\n", r"JSONDecodeError: .*\n  .*broken_code.py:2"),
        ("import no_such_library\n", r"ModuleNotFoundError: No module named 'no_such_library'\n  .*broken_code.py:1"),
        ("from os import no_such_name\n", r"ImportError: .*\n  .*broken_code.py:1"),
    ],
)
def test_code_that_cannot_be_imported_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
):
    (tmp_path / "broken_code.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DeclarationError, match=f"'broken_code:it' cannot be imported: {said}"):
        load("broken_code:it", object)


def test_an_import_that_fails_for_a_passing_cause_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "unlucky_code.py").write_text("raise OSError('no network')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OSError, match="no network"):
        load("unlucky_code:it", object)
