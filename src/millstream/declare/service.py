"""A service: a name and its handlers."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from millstream.declare.checks import (
    check_collisions,
    check_duration,
    check_event_classes,
    check_name,
    check_once,
    check_one_of,
)
from millstream.declare.contract import Contract
from millstream.declare.durations import seconds
from millstream.declare.failure import OnFailure, Retry, dead_letter
from millstream.declare.handler import Handler, Kind, Need, check_published, read_handler
from millstream.declare.owning import check_owned
from millstream.declare.store import Store
from millstream.declare.timer import Timer
from millstream.declare.topic import Topic, home_of
from millstream.errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import MetaData

Delivery = Literal["exactly_once", "at_least_once"]
Start: TypeAlias = Literal["earliest", "latest"] | datetime
F = TypeVar("F", bound=Callable[..., Any])


class Service:
    """Handlers that run together in one process, under one name.

    - `name`: lower case; prefix of its consumer groups, transactional ids, changelogs and metrics.
    - `delivery`: `"at_least_once"` for handlers that do not need more: offsets are committed after processing, and
      nothing is transactional.
    - `group`: the consumer group, where another name than `<service>.<kind>` is wanted (for one kind of handler only).
    - `tables`: the SQLAlchemy metadata of its database; missing tables are created at start.
    - `web`: `"module:function"` of a factory `(Web) -> ASGI application`, imported only by the process that serves it.
    - `publishes`: what its web handlers publish, beside what the annotations of the handlers say.
    - `start`: where its groups begin that have read nothing yet: `"earliest"`, `"latest"`, or a `datetime` with a time
      zone. By default at the earliest event there is, unless what the service publishes is there already: then it was
      renamed, or has lost its positions, and refuses to start.
    - `max_parked`: events that may be parked in one partition of a kind of handler; with as many it pauses and alerts.

    >>> from millstream.declare.contract import Event
    >>> class Paid(Event, key="order_id"):
    ...     order_id: str
    >>> class Shipped(Event, key="order_id"):
    ...     order_id: str
    >>> payments, parcels = Topic("p.events", Paid), Topic("s.events", Shipped)
    >>> shipping = Service("shipping")
    >>> @shipping.on(Paid)
    ... def ship(paid: Paid) -> Shipped:
    ...     return Shipped(order_id=paid.order_id)
    >>> ship(Paid(order_id="o-1"))
    Shipped(order_id='o-1')
    """

    def __init__(
        self,
        name: str,
        *,
        delivery: Delivery = "exactly_once",
        group: str | None = None,
        tables: "MetaData | None" = None,
        web: str | None = None,
        publishes: Iterable[type[Contract]] = (),
        max_parked: int = 1_000,
        start: Start | None = None,
    ) -> None:
        where = f"Service {name!r}"
        check_name(where, name)
        if group is not None:
            check_name(f"{where}: group {group!r}", group)
        check_one_of(where, "delivery", delivery, get_args(Delivery))
        if web is not None and ":" not in web:
            raise DeclarationError(f'{where}: web={web!r} names no factory: write web="module:function"')
        publishes = tuple(publishes)
        check_event_classes(f"{where}: publishes=", publishes, timers=False)
        if max_parked < 1:
            raise DeclarationError(f"Service {name!r}: max_parked={max_parked} could park nothing; it is at least 1")
        self.name = name
        self.delivery: Delivery = delivery
        self.tables = tables
        self.web = web
        self.publishes = publishes
        self.handlers: list[Handler] = []
        self.providers: dict[type, Callable[..., Any]] = {}
        self.background: list[Any] = []
        if isinstance(start, datetime) and start.tzinfo is None:
            raise DeclarationError(f"Service {name!r}: start={start.isoformat()} has no time zone; add tzinfo=UTC")
        if not isinstance(start, datetime) and start not in (None, "earliest", "latest"):
            raise DeclarationError(f"Service {name!r}: start={start!r} is neither 'earliest', 'latest' nor a datetime")
        self.max_parked = max_parked
        self.start: Start | None = start
        self._group = group

    def on(
        self,
        *consumes: type[Contract],
        publishes: tuple[type[Contract], ...] | None = None,
        retry: Retry | None = None,
        on_failure: OnFailure = dead_letter,
        inbox: timedelta | None = None,
    ) -> Callable[[F], F]:
        """Registers a synchronous handler: Kafka state or none, or SQL where it asks for a `Session` or `Connection`.

        - `inbox`: for producers outside Millstream that send duplicates: an event whose id (`ce_id`) was handled within
          this time is passed over.

        The function stays callable as it is. Raises `DeclarationError` for a signature that cannot work.
        """
        return self._register(
            consumes, effect=False, publishes=publishes, retry=retry, on_failure=on_failure, inbox=inbox
        )

    def effect(
        self,
        *consumes: type[Contract],
        publishes: tuple[type[Contract], ...] | None = None,
        retry: Retry | None = None,
        on_failure: OnFailure = dead_letter,
        timeout: timedelta = seconds(30),
        concurrency: int = 16,
    ) -> Callable[[F], F]:
        """Registers an asynchronous handler that acts on the outside world.

        - `timeout`: of one attempt.
        - `concurrency`: how many keys are served at once; one key is served in order.
        """
        return self._register(
            consumes,
            effect=True,
            publishes=publishes,
            retry=retry,
            on_failure=on_failure,
            timeout=timeout,
            concurrency=concurrency,
        )

    def provides(self, factory: F) -> F:
        """Registers how a resource of handlers is made: an async generator function `(Settings)` that yields it.

        The class is read from the return annotation, `AsyncIterator[Gateway]`; what follows the `yield` closes it.
        """
        produced = get_args(get_type_hints(factory).get("return"))[:1]
        if len(produced) != 1 or not isinstance(produced[0], type):
            raise DeclarationError(f"{factory.__name__} must be annotated -> AsyncIterator[TheResource]")
        if not inspect.isasyncgenfunction(factory):
            raise DeclarationError(
                f"{factory.__name__} must be an async generator: write it as async def, and yield the "
                f"{produced[0].__name__} once"
            )
        if (other := self.providers.get(produced[0])) is not None:
            names = f"{other.__name__} and {factory.__name__}"
            raise DeclarationError(f"{self.name}: {names} both provide {produced[0].__name__}; make them one")
        self.providers[produced[0]] = factory
        return factory

    def add(self, handler: Handler) -> None:
        """Registers a handler that a pattern made.

        Raises `DeclarationError` where two of one kind take one class, or one publishes what another owns.
        """
        for other in self.handlers:
            both = set(other.consumes) & set(handler.consumes)
            if other.kind is handler.kind and both:
                raise DeclarationError(
                    f"{self.name}: {other.name} and {handler.name} both handle {both.pop().__name__}; make them one"
                )
            if other.name == handler.name:
                raise DeclarationError(
                    f"{self.name} has two handlers named {handler.name}; ids of their events would collide"
                )
        place = f"{self.name}.{handler.name}"
        check_owned(self.said() | {place: handler.produces}, self.owned() | dict.fromkeys(handler.owns, place))
        self.handlers.append(handler)

    def group(self, kind: Kind) -> str:
        """The consumer group of the handlers of one kind."""
        return self._group or f"{self.name}.{kind.value}"

    def redrive_topic(self, kind: Kind) -> str:
        """The topic by which an operator redrives events to the handlers of one kind."""
        return f"{self.group(kind)}.redrive"

    def parked_topic(self, kind: Kind) -> str:
        """The compacted topic of events that handlers of one kind without a database have parked."""
        return f"{self.group(kind)}.parked"

    def timers_topic(self, kind: Kind) -> str:
        """The compacted topic of the timers of its Kafka handlers."""
        return f"{self.group(kind)}.timers"

    def inbox_topic(self, kind: Kind) -> str:
        """The compacted topic of the ids that its Kafka handlers with an `inbox` have handled."""
        return f"{self.group(kind)}.inbox"

    def partitions(self, kind: Kind) -> int:
        """The number of partitions that the handlers of one kind are spread over."""
        return max((topic.partitions for topic in self.consumed(kind)), default=1)

    def timers(self, kind: Kind) -> tuple[type[Timer], ...]:
        """The timers that come to its handlers of one kind."""
        return tuple(timer for handler in self.of_kind(kind) for timer in handler.timers)

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of handler that it has."""
        return tuple(dict.fromkeys(handler.kind for handler in self.handlers))

    def of_kind(self, kind: Kind) -> tuple[Handler, ...]:
        """Its handlers of one kind."""
        return tuple(handler for handler in self.handlers if handler.kind is kind)

    def consumed(self, kind: Kind | None = None) -> tuple[Topic, ...]:
        """The topics it reads, each once."""
        handlers = self.handlers if kind is None else self.of_kind(kind)
        return tuple(dict.fromkeys(topic for handler in handlers for topic in handler.topics))

    def produced(self) -> tuple[type[Contract], ...]:
        """The classes it publishes, each once."""
        classes = [contract for handler in self.handlers for contract in handler.produces]
        return tuple(dict.fromkeys([*classes, *self.publishes]))

    def said(self) -> dict[str, tuple[type[Contract], ...]]:
        """The classes it publishes by who does: `service.handler`, or its own name for what `publishes=` lists."""
        by_handler = {f"{self.name}.{handler.name}": handler.produces for handler in self.handlers}
        return by_handler | {self.name: self.publishes}

    def owned(self) -> dict[type[Contract], str]:
        """The classes that one of its handlers alone may publish, each with that `service.handler`."""
        return {contract: f"{self.name}.{handler.name}" for handler in self.handlers for contract in handler.owns}

    def stores(self) -> tuple[Store[Any], ...]:
        """The stores of its handlers, each once."""
        return tuple(dict.fromkeys(store for handler in self.handlers for store in handler.stores))

    def topic_names(self) -> Iterator[tuple[str, Any, str]]:
        """Yield the name of each topic that the service reads or writes, what claims it, and a description."""
        for topic in self.consumed():
            yield topic.name, topic, f"Topic {topic.name!r}"
            yield topic.dead_letters, None, f"the dead letters of {topic.name!r}"
        for contract in self.produced():
            topic = home_of(contract)
            yield topic.name, topic, f"Topic {topic.name!r}"
        for store in self.stores():
            # The topic of a view may be declared as a `Topic` by those who read it.
            yield store.changelog(self.name), (self, store), f"the changelog of {store!r} in {self.name}"
        for kind in self.kinds():
            group = self.group(kind)
            for name in (
                self.redrive_topic(kind),
                self.parked_topic(kind),
                self.timers_topic(kind),
                self.inbox_topic(kind),
            ):
                yield name, (self, name), f"an internal topic of group {group!r}"
            yield f"{self.timers_topic(kind)}.dlq", (self, kind), f"the dead letters of timers of group {group!r}"

    def check(self) -> None:
        """Raises `DeclarationError` for what only the whole service shows: partition counts, groups, resources."""
        if self._group is not None and len(self.kinds()) > 1:
            raise DeclarationError(f"{self.name} has handlers of {len(self.kinds())} kinds: group= serves only one")
        for kind in self.kinds():
            counts = {topic.name: topic.partitions for topic in self.consumed(kind)}
            if len(set(counts.values())) > 1:
                raise DeclarationError(
                    f"{self.name} has {kind.value} handlers of topics with unlike partition counts: {counts}. Their "
                    "state and parked keys are kept by partition: give the topics one count, or split the service"
                )
        self._check_timers()
        for handler in self.handlers:
            for parameter in handler.parameters:
                if parameter.need is Need.RESOURCE and parameter.of not in self.providers:
                    raise DeclarationError(
                        f"{self.name}: {handler.name} asks for {parameter.name}: {parameter.of.__name__}, "
                        f"and no @{self.name}.provides function yields one"
                    )
        names = list(self.topic_names())
        for name, _, what in names:
            check_name(f"{self.name}: {what}", name)
        check_once(names)
        check_collisions((name, what) for name, _, what in names)
        for contract in self.publishes:
            check_published(f"{self.name}: web handlers", contract)

    def _check_timers(self) -> None:
        for handler in self.handlers:
            setters = [other.name for other in self.of_kind(handler.kind) if other.sets_timers]
            if handler.timers and handler.kind is Kind.EFFECT:
                raise DeclarationError(
                    f"{self.name}: {handler.name} is an effect and takes the timer {handler.timers[0].__name__}: "
                    "take it in a handler that emits a command, and carry the command out in an effect"
                )
            if handler.timers and not setters:
                raise DeclarationError(
                    f"{self.name}: {handler.name} takes the timer {handler.timers[0].__name__}, and no "
                    f"{handler.kind.value} handler asks for Timers to set it; timers stay with one kind of state"
                )
            if handler.sets_timers and not self.timers(handler.kind):
                raise DeclarationError(
                    f"{self.name}: {handler.name} asks for Timers, and no {handler.kind.value} handler takes any: "
                    f"register one with @{self.name}.on(TheTimer)"
                )

    def _register(
        self,
        consumes: tuple[type[Contract], ...],
        *,
        effect: bool,
        publishes: tuple[type[Contract], ...] | None,
        retry: Retry | None,
        on_failure: OnFailure,
        timeout: timedelta = seconds(30),
        concurrency: int = 16,
        inbox: timedelta | None = None,
    ) -> Callable[[F], F]:
        decorator = f"@{self.name}.{'effect' if effect else 'on'}"
        if not consumes:
            raise DeclarationError(f"{decorator}() names no event class")
        if inspect.isfunction(consumes[0]):
            raise DeclarationError(
                f"{decorator} over {consumes[0].__name__} names no event class: write {decorator}(TheEvent)"
            )
        check_event_classes(f"{decorator}(…)", consumes)
        _check_options(f"{decorator}(…)", retry, on_failure, timeout, concurrency, inbox)

        def register(function: F) -> F:
            self.add(
                read_handler(
                    function,
                    consumes,
                    effect=effect,
                    publishes=publishes,
                    retry=retry or Retry(),
                    on_failure=on_failure,
                    timeout=timeout,
                    concurrency=concurrency,
                    inbox=inbox,
                )
            )
            return function

        return register

    def __repr__(self) -> str:
        return f"Service({self.name!r})"


def _check_options(
    where: str, retry: Any, on_failure: Any, timeout: Any, concurrency: Any, inbox: timedelta | None
) -> None:
    if not isinstance(retry, Retry | None):
        raise DeclarationError(f"{where}: retry={retry!r} is no Retry: write retry=Retry(attempts={retry!r})")
    if not isinstance(on_failure, OnFailure):
        raise DeclarationError(
            f"{where}: on_failure={on_failure!r}: take millstream.dead_letter, millstream.park_key or millstream.stop"
        )
    check_duration(where, "timeout", timeout)
    if not isinstance(concurrency, int) or concurrency < 1:
        raise DeclarationError(f"{where}: concurrency={concurrency!r} would never call anything; it is at least 1")
    if inbox is not None:
        check_duration(where, "inbox", inbox)
