"""A handler's signature, read once: what it consumes, what it needs, what it produces."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from millstream.declare.checks import check_event_classes
from millstream.declare.contract import Command, Contract, Event, key_field
from millstream.declare.deleted import Deleted
from millstream.declare.durations import seconds
from millstream.declare.envelope import Call, Envelope
from millstream.declare.failure import OnFailure, Retry
from millstream.declare.signature import check_function, check_returns, check_takes
from millstream.declare.store import State, Store
from millstream.declare.timer import Timer, Timers
from millstream.declare.topic import FOREVER, Topic, home_of
from millstream.errors import DeclarationError


class Kind(Enum):
    """The home of a handler's state, which decides what commits together."""

    KAFKA = "kafka"
    SQL = "sql"
    EFFECT = "effect"


class Need(Enum):
    """The source that a parameter of a handler is filled from."""

    EVENT = "event"
    STATE = "state"
    SESSION = "session"
    CONNECTION = "connection"
    ENVELOPE = "envelope"
    CALL = "call"
    TIMERS = "timers"
    RESOURCE = "resource"


_SQL = {"Session": Need.SESSION, "Connection": Need.CONNECTION}
"""SQLAlchemy's classes that make a handler one with a database."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, what fills it, and the store or resource class where there is one."""

    name: str
    need: Need
    of: Any = None


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler of a service, as the runtime sees it.

    - `owns`: of what it produces, the classes that no other service of the system may publish.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    consumes: tuple[type[Contract], ...]
    produces: tuple[type[Contract], ...]
    retry: Retry = field(default_factory=Retry)
    on_failure: OnFailure = OnFailure.DEAD_LETTER
    timeout: timedelta = seconds(30)
    concurrency: int = 16
    inbox: timedelta | None = None
    owns: tuple[type[Contract], ...] = ()

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics it reads, each once, in the order of its annotation."""
        return tuple(dict.fromkeys(home_of(contract) for contract in self.consumes if not issubclass(contract, Timer)))

    @property
    def timers(self) -> tuple[type[Timer], ...]:
        """The timers that come to it."""
        return tuple(contract for contract in self.consumes if issubclass(contract, Timer))

    @property
    def sets_timers(self) -> bool:
        """True where it asks for `Timers`."""
        return any(parameter.need is Need.TIMERS for parameter in self.parameters)

    @property
    def stores(self) -> tuple[Store[Any], ...]:
        """The stores it asks for."""
        return tuple(p.of for p in self.parameters if p.need is Need.STATE)


def read_handler(
    function: Callable[..., Any],
    consumes: tuple[type[Contract], ...],
    *,
    effect: bool,
    publishes: tuple[type[Contract], ...] | None,
    retry: Retry,
    on_failure: OnFailure,
    timeout: timedelta,
    concurrency: int,
    inbox: timedelta | None = None,
) -> Handler:
    """Reads `function`'s signature. Raises `DeclarationError` naming function, parameter and remedy."""
    name = getattr(function, "__name__", repr(function))
    check_function(name, function)
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise DeclarationError(f"{name}: {error}; annotations must resolve at import time") from error
    parameters = tuple(
        _parameter(name, position, parameter.name, hints.get(parameter.name))
        for position, parameter in enumerate(inspect.signature(function).parameters.values())
    )
    if not parameters:
        raise DeclarationError(f"{name} takes no parameter; the first one receives the event")
    check_event_classes(name, consumes)
    check_takes(name, consumes, hints.get(parameters[0].name))
    if publishes is None:
        check_returns(name, hints, "-> OrderShipped | OrderRefused")
    for contract in consumes:
        key_field(contract) if issubclass(contract, Timer) else home_of(contract)
    needs = {parameter.need for parameter in parameters}
    handler = Handler(
        name=name,
        kind=_kind(name, needs, effect=effect, is_async=inspect.iscoroutinefunction(function)),
        function=function,
        parameters=parameters,
        consumes=consumes,
        produces=_published(name, publishes)
        if publishes is not None
        else outputs_of(name, hints.get("return", NoneType)),
        retry=retry,
        on_failure=on_failure,
        timeout=timeout,
        concurrency=concurrency,
        inbox=inbox,
    )
    check_retries(handler)
    return handler


def check_retries(handler: Handler) -> None:
    """Raises `DeclarationError` where an event may be tried for longer than its topic keeps it."""
    last_attempt = handler.timeout if handler.kind is Kind.EFFECT else timedelta(0)
    for topic in handler.topics:
        room = topic.retention - last_attempt
        if topic.compacted or topic.retention == FOREVER or handler.retry.within < room:
            continue
        if (longest := handler.retry.longest()) >= room:
            raise DeclarationError(
                f"{handler.name} may try an event for {longest}, and Topic {topic.name!r} keeps it for "
                f"{topic.retention}: events behind it would be deleted before their turn. Raise retention=, or lower "
                "within= or attempts= of its Retry"
            )


def _parameter(function: str, position: int, name: str, annotation: Any) -> Parameter:
    if position == 0:
        return Parameter(name, Need.EVENT)
    if get_origin(annotation) is Annotated:
        base, *extras = get_args(annotation)
        for extra in extras:
            if isinstance(extra, Store):
                return Parameter(name, Need.STATE, extra)
        annotation = base
    if annotation is Envelope:
        return Parameter(name, Need.ENVELOPE)
    if annotation is Call:
        return Parameter(name, Need.CALL)
    if annotation is Timers:
        return Parameter(name, Need.TIMERS)
    if (get_origin(annotation) or annotation) is State:
        raise DeclarationError(f"{function}: which store is {name!r}? Write {name}: Annotated[State[...], STORE]")
    if not isinstance(annotation, type):
        raise DeclarationError(f"{function}: parameter {name!r} needs a class as its annotation, not {annotation!r}")
    # By name, so that a service without a database never imports SQLAlchemy.
    if annotation.__module__.startswith("sqlalchemy.") and annotation.__name__ in _SQL:
        return Parameter(name, _SQL[annotation.__name__])
    return Parameter(name, Need.RESOURCE, annotation)


def _kind(name: str, needs: set[Need], *, effect: bool, is_async: bool) -> Kind:
    sql = not needs.isdisjoint(_SQL.values())
    if effect:
        if not is_async:
            raise DeclarationError(f"{name} is an effect: write it as async def")
        if Need.STATE in needs or sql:
            raise DeclarationError(
                f"{name} is an effect with state: split it into a handler that keeps the state and emits a command, "
                "and an effect that carries the command out; no transaction stays open during a call"
            )
        if Need.TIMERS in needs:
            raise DeclarationError(
                f"{name} is an effect and asks for Timers: let it return an event, and set the timer where that event "
                "is handled"
            )
        return Kind.EFFECT
    if is_async:
        raise DeclarationError(f"{name} is async: outside calls belong in an effect (@service.effect)")
    if Need.CALL in needs:
        raise DeclarationError(f"{name} asks for a Call, which only effects have; ask for an Envelope")
    if Need.STATE in needs and sql:
        raise DeclarationError(f"{name} asks for a Store and a database: two kinds of state cannot commit together")
    return Kind.SQL if sql else Kind.KAFKA


def outputs_of(name: str, annotation: Any) -> tuple[type[Contract], ...]:
    """The classes that a return annotation names. Raises `DeclarationError` for what is no event, or for a bare one."""
    found: dict[type[Contract], None] = {}
    for part in _alternatives(annotation):
        if not (isinstance(part, type) and issubclass(part, Contract)):
            raise DeclarationError(f"{name} returns {part!r}: annotate the events it returns, or use publishes=")
        if part in (Contract, Event, Command, Timer, Deleted):
            raise DeclarationError(
                f"{name} returns a bare {part.__name__}: name the classes, as in -> Shipped | Refused"
            )
        check_published(name, part)
        found[part] = None
    return tuple(found)


def _published(name: str, publishes: tuple[type[Contract], ...]) -> tuple[type[Contract], ...]:
    if isinstance(publishes, type):
        one = publishes.__name__
        raise DeclarationError(f"{name}: publishes={one} is one class: write publishes=({one},)")
    check_event_classes(f"{name}: publishes=", publishes, timers=False)
    for contract in publishes:
        check_published(name, contract)
    return publishes


def check_published(where: str, contract: type[Contract]) -> None:
    """Raises `DeclarationError` for a class without a home, and for a deletion where nothing is ever deleted."""
    if not home_of(contract).compacted and contract.__deletes__ is not None:
        raise DeclarationError(
            f"{where} publishes {contract.__name__}, and {home_of(contract).name!r} is not compacted: a tombstone "
            "deletes nothing there. Declare the topic compacted=True, or publish an event that says what happened"
        )


def _alternatives(annotation: Any) -> Iterable[Any]:
    origin = get_origin(annotation)
    if annotation in (None, NoneType):
        return
    if origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    elif isinstance(origin, type) and issubclass(origin, Iterable):
        for part in get_args(annotation):
            if part is not Ellipsis:
                yield from _alternatives(part)
    else:
        yield annotation
