"""The class that users write, and the marks on its methods."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, overload

import msgspec

from millstream.declare import (
    Event,
    Handler,
    Kind,
    Need,
    OnFailure,
    Parameter,
    Retry,
    Service,
    Store,
    Value,
    dead_letter,
)
from millstream.declare.checks import check_name
from millstream.declare.contract import ValueMeta
from millstream.errors import DeclarationError
from millstream.patterns.aggregate.marks import Decides, Evolves, mark
from millstream.patterns.aggregate.rules import Rules, read_rules
from millstream.patterns.aggregate.runner import Runner
from millstream.patterns.aggregate.snapshot import snapshot_class

F = TypeVar("F", bound=Callable[..., Any])


@overload
def decides(function: F, /) -> F: ...
@overload
def decides(*, expects: str | None = None, conflict: type[Event] | None = None) -> Callable[[F], F]: ...
def decides(function: Any = None, /, *, expects: str | None = None, conflict: type[Event] | None = None) -> Any:
    """Marks a decision: `(self, command) -> event, several, or None`; a third parameter may be an `Envelope`.

    It changes nothing: what it returns is said, and evolves the state. It may raise `Rejected`.

    - `expects`: the field of the command that carries the version which its sender has seen, an `int` or None for any.
    - `conflict`: what is said instead where the version is another: an event class whose fields are filled by name from
      the command, and `version` with the version that is. It changes nothing. Default: `Rejected("version_conflict")`.
    """
    if function is not None:
        return mark(function, Decides())

    def marks(decision: F) -> F:
        return mark(decision, Decides(expects, conflict))

    return marks


def evolves(function: F, /) -> F:
    """Marks how an event changes the state: `(self, event) -> Self`. It is called again in every replay."""
    return mark(function, Evolves())


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class AggregateMeta(ValueMeta):
    """Reads the rules of each aggregate when it is declared; takes `unchanged_by=`."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        *,
        unchanged_by: tuple[type[Event], ...] = (),
        **options: Any,
    ) -> Any:
        cls: Any = super().__new__(mcls, name, bases, body, **options)
        cls.__mounted__ = None
        cls.__rules__ = read_rules(cls, unchanged_by) if any(isinstance(base, mcls) for base in bases) else None
        return cls


class Aggregate(Value, metaclass=AggregateMeta):
    """The state that a command is decided on: fields with their defaults are that of a key that nothing happened to.

    - `unchanged_by=`: events of its decisions that change nothing, such as refusals. Every other one needs an
      `@evolves`, and counts in its version.

    Commands of one key are decided one at a time, and the state is kept in the same transaction that says the events.
    The events are the truth: they live on one topic whose records are never deleted, and no other service writes it.

    Raises `DeclarationError` where it is declared, for what cannot work.

    >>> from typing import Self
    >>> from millstream.declare import FOREVER, Command, Event, Topic
    >>> class Lend(Command, key="book"):
    ...     book: str
    ...     to: str
    >>> class Lent(Event, key="book"):
    ...     book: str
    ...     to: str
    >>> class NotLent(Event, key="book"):
    ...     book: str
    >>> desk, lending = Topic("desk", Lend), Topic("lending", Lent, NotLent, retention=FOREVER)
    >>> class Book(Aggregate, unchanged_by=(NotLent,)):
    ...     reader: str | None = None
    ...
    ...     @decides
    ...     def lend(self, command: Lend) -> Lent | NotLent:
    ...         return NotLent(book=command.book) if self.reader else Lent(book=command.book, to=command.to)
    ...
    ...     @evolves
    ...     def lent(self, event: Lent) -> Self:
    ...         return type(self)(reader=event.to)
    >>> Book(reader="ann").lend(Lend(book="b-1", to="bob"))
    NotLent(book='b-1')
    >>> Book().lent(Lent(book="b-1", to="bob"))
    Book(reader='bob')
    """

    __rules__: ClassVar[Any] = None  # Rules; msgspec evaluates annotations of fields, and a ClassVar's with them
    __mounted__: ClassVar[str | None] = None

    @classmethod
    def mount(
        cls,
        service: Service,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        on_failure: OnFailure = dead_letter,
        inbox: timedelta | None = None,
    ) -> None:
        """Let `service` run it, as one of its Kafka handlers. No other service may publish what it evolves.

        - `name`: of its snapshots and handler, which must never change; by default the class's name in lower case.
        - `inbox`: as in `Service.on`, for senders that repeat commands.

        Raises `DeclarationError` for one that is mounted already, that decides nothing, or whose events the service
        says elsewhere too.
        """
        rules = rules_of(cls)
        name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        check_name(f"{cls.__name__}: name {name!r}", name)
        cls._check_mount(service)
        store = Store(f"{name}-aggregate", snapshot_class(cls))
        handler = f"{name.replace('-', '_')}_aggregate"
        service.add(
            Handler(
                name=handler,
                kind=Kind.KAFKA,
                function=Runner(cls, rules, store, f"{service.name}.{handler}"),
                parameters=(
                    Parameter("command", Need.EVENT),
                    Parameter("snapshots", Need.STATE, store),
                    Parameter("envelope", Need.ENVELOPE),
                ),
                consumes=tuple(rules.decisions),
                produces=rules.events,
                retry=retry or Retry(),
                on_failure=on_failure,
                inbox=inbox,
                owns=tuple(rules.evolutions),
            )
        )
        cls.__mounted__ = service.name

    @classmethod
    def _check_mount(cls, service: Service) -> None:
        if cls.__mounted__ is not None:
            raise DeclarationError(
                f"{cls.__name__} is mounted on {cls.__mounted__} already: each key has one writer. Mount it once, and "
                "let other services send commands or read its events"
            )
        if service.delivery != "exactly_once":
            raise DeclarationError(
                f'{cls.__name__}: {service.name} has delivery="{service.delivery}", and a snapshot must commit with '
                "the events; mount it on a service with exactly-once delivery"
            )


def rules_of(aggregate: Any) -> Rules:
    """The rules of an aggregate. Raises `DeclarationError` for what is none, or decides nothing."""
    if aggregate is Aggregate or not isinstance(aggregate, AggregateMeta):
        name = getattr(aggregate, "__name__", repr(aggregate))
        raise DeclarationError(f"{name} is no aggregate: name a subclass of Aggregate")
    rules: Rules | None = cast("type[Aggregate]", aggregate).__rules__
    if rules is None:
        raise DeclarationError(f"{aggregate.__name__} decides nothing: mark a method of it with @decides")
    return rules
