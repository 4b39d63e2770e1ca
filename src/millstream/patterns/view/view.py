"""The projection: from an event and a row to the next row."""

import inspect
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from millstream.declare import (
    Contract,
    Envelope,
    Handler,
    Kind,
    Need,
    OnFailure,
    Parameter,
    Retry,
    Service,
    State,
    Store,
    Value,
    dead_letter,
    home_of,
    key_of,
)
from millstream.declare.checks import check_event_classes, check_name
from millstream.declare.handler import check_retries
from millstream.declare.signature import check_function, check_returns, check_takes
from millstream.errors import DeclarationError
from millstream.patterns.view.sink import Listener, Row, Sink
from millstream.patterns.view.worker import SinkBackground

R = TypeVar("R", bound=Value)
F = TypeVar("F", bound=Callable[..., Any])


class View(Generic[R]):
    """A read model: one row per business id, made of events from any number of topics.

    - `name`: unique in its service.
    - `row`: the class of its rows.
    - `topic`: the compacted topic that holds them, keyed by the business id of the events. A row's version is its
      offset there.
    - `sinks`: where the rows go from there; each follows the topic on its own, and can be rebuilt from it.

    Events of one topic come in order, those of several topics in any: handlers must arrive at the same row either way.

    >>> from millstream.declare import Event, Topic
    >>> class Weighed(Event, key="parcel"):
    ...     parcel: str
    ...     grams: int
    >>> weights = Topic("view.weights", Weighed)
    >>> class ParcelRow(Value):
    ...     heaviest: int
    >>> view = View("parcels", ParcelRow, topic="parcels.read-model")
    >>> @view.on(Weighed)
    ... def weighed(event: Weighed, row: ParcelRow | None) -> ParcelRow:
    ...     return ParcelRow(heaviest=max(event.grams, row.heaviest if row else 0))
    >>> weighed(Weighed(parcel="p-1", grams=3), ParcelRow(heaviest=2))
    ParcelRow(heaviest=3)
    """

    def __init__(self, name: str, row: type[R], *, topic: str, sinks: Sequence[Sink] = ()) -> None:
        check_name(f"View {name!r}", name)
        check_name(f"View {name!r}: topic {topic!r}", topic)
        names = [sink.name for sink in sinks]
        if len(set(names)) < len(names):
            raise DeclarationError(f"View {name!r} has two sinks of one name: {', '.join(names)}; give them names")
        self.name = name
        self.row = row
        self.topic = topic
        self.sinks = tuple(sinks)
        self.store = Store(name, row, topic=topic)
        self.handlers: list[Handler] = []
        self._listeners: list[Listener] = []
        self._mounted: str | None = None

    def on(
        self, *consumes: type[Contract], retry: Retry | None = None, on_failure: OnFailure = dead_letter
    ) -> Callable[[F], F]:
        """Registers a projection `(event, row or None) -> row or None`; a third parameter may be an `Envelope`.

        `None` deletes the row. The function stays callable as it is. Raises `DeclarationError` for another signature.
        """
        decorator = f"View {self.name!r}: @on"
        if not consumes:
            raise DeclarationError(f"{decorator}() names no event class")
        if inspect.isfunction(consumes[0]):
            raise DeclarationError(
                f"{decorator} over {consumes[0].__name__} names no event class: write {decorator}(TheEvent)"
            )
        check_event_classes(f"{decorator}(…)", consumes, timers=False)
        if self._mounted is not None:
            raise DeclarationError(
                f"{decorator}(…): the view is mounted on {self._mounted} already, which would never call it: mount the "
                "view after its last handler"
            )

        def register(function: F) -> F:
            envelope = self._check(function, consumes)
            parameters = [Parameter("event", Need.EVENT), Parameter("rows", Need.STATE, self.store)]
            handler = Handler(
                name=function.__name__,
                kind=Kind.KAFKA,
                function=_with_envelope(function) if envelope else _projection(function),
                parameters=(*parameters, Parameter("envelope", Need.ENVELOPE)) if envelope else tuple(parameters),
                consumes=consumes,
                produces=(),
                retry=retry or Retry(),
                on_failure=on_failure,
            )
            check_retries(handler)
            self.handlers.append(handler)
            return function

        for contract in consumes:
            home_of(contract)
        return register

    def mount(self, service: Service) -> None:
        """Lets `service` run it: its projections among the Kafka handlers, and a worker for each sink.

        Raises `DeclarationError` for one that is mounted already, or has no handler.
        """
        if self._mounted is not None:
            raise DeclarationError(
                f"View {self.name!r} is mounted on {self._mounted} already: two services would write {self.topic!r}. "
                "Mount it once"
            )
        if not self.handlers:
            raise DeclarationError(f"View {self.name!r} has no handler: register one with @on(TheEvent), then mount it")
        self._mounted = service.name
        for handler in self.handlers:
            service.add(handler)
        service.background += [
            SinkBackground(service, self.name, self.topic, self.row, sink, self._tell) for sink in self.sinks
        ]

    def listen(self, listener: Listener) -> None:
        """Calls `listener` with rows each time after a sink in this process has applied them."""
        self._listeners.append(listener)

    def _tell(self, rows: Sequence[Row]) -> None:
        for listener in self._listeners:
            listener(rows)

    def _check(self, function: Callable[..., Any], consumes: tuple[type[Contract], ...]) -> bool:
        """True where it wants an envelope."""
        check_function(function.__name__, function)
        if inspect.iscoroutinefunction(function):
            raise DeclarationError(f"{function.__name__} is async: a projection is a plain function; write it with def")
        name, hints = function.__name__, get_type_hints(function)
        names = list(inspect.signature(function).parameters)
        if len(names) not in (2, 3) or (len(names) == 3 and hints.get(names[2]) is not Envelope):
            raise DeclarationError(
                f"{name}: a projection takes an event, a row, and an Envelope if it wants one: "
                f"{name}(event, row: {self.row.__name__} | None)"
            )
        if {self.row, NoneType} != set(get_args(hints.get(names[1]))):
            raise DeclarationError(
                f"{name}: {names[1]} must be annotated {self.row.__name__} | None: there may be none"
            )
        check_takes(name, consumes, hints.get(names[0]))
        check_returns(name, hints, f"-> {self.row.__name__}")
        returned = hints["return"]
        if not set(get_args(returned) or {returned}) <= {self.row, NoneType}:
            raise DeclarationError(f"{name} must return {self.row.__name__}, or None to delete the row; annotate which")
        return len(names) == 3


def _projection(function: Callable[..., Any]) -> Callable[..., None]:
    def project(event: Contract, rows: State[Any]) -> None:
        key = key_of(event)
        row = rows.get(key)
        _keep(rows, key, row, function(event, row))

    return project


def _with_envelope(function: Callable[..., Any]) -> Callable[..., None]:
    def project(event: Contract, rows: State[Any], envelope: Envelope) -> None:
        key = key_of(event)
        row = rows.get(key)
        _keep(rows, key, row, function(event, row, envelope))

    return project


def _keep(rows: State[Any], key: str, before: Any, after: Any) -> None:
    if after is None:
        rows.delete(key)
    elif after != before:
        rows.put(key, after)
