"""Records whose key is not the key field of their event.

Kafka gives a record to a partition by its key. State in partitions is right only where all events of one business key
come in one partition: a record under another key, or under none, would give that business key a second state.
"""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from millstream.declare import Contract, Handler, Kind, Service, Store, Timer, home_of, key_field
from millstream.errors import DecodeError
from millstream.kafka.log_throttle import LogThrottle
from millstream.kafka.port import Message
from millstream.state.ownership import Ownership, PresentKey
from millstream.telemetry import get_logger, metrics

log = get_logger(__name__)


class KeyCheck(NamedTuple):
    """The check of the keys of one class's records.

    - `key`: from an event to what its record's key should be.
    - `foreign`: called with a message whose key is another one, or none; counts it, or raises `DecodeError`.
    """

    key: Callable[[Any], str]
    foreign: Callable[[Message], None]

    def __call__(self, event: Any, message: Message) -> None:
        if message.key() != self.key(event).encode():
            self.foreign(message)


class KeyChecks:
    """The checks of the handlers of one kind of a service, by class; none where the topic accepts every key."""

    def __init__(self, service: Service, handlers: Mapping[type[Contract], Handler]) -> None:
        self._service = service.name
        self._log_throttle = LogThrottle()
        self._counted: tuple[str, int, int] | None = None
        self._checks = {
            contract: KeyCheck(attrgetter(key_field(contract)), foreign)
            for contract, handler in handlers.items()
            if (foreign := self._foreign(contract, handler)) is not None
        }

    def get(self, contract: type[Contract]) -> KeyCheck | None:
        """The check of a class, or `None`."""
        return self._checks.get(contract)

    def _foreign(self, contract: type[Contract], handler: Handler) -> Callable[[Message], None] | None:
        # A timer's record is made from the timer, and a deletion has no key but its record's.
        if issubclass(contract, Timer) or contract.__deletes__ is not None:
            return None
        match home_of(contract).foreign_keys or ("refuse" if keeps_by_key(handler) else "warn"):
            case "refuse":
                return lambda message: _refuse(contract, message)
            case "warn":
                return lambda message: self._count(contract, handler, message)
            case "accept":
                return None

    def _count(self, contract: type[Contract], handler: Handler, message: Message) -> None:
        at = topic, partition, offset = message.topic(), message.partition(), message.offset()
        if at == self._counted:  # read again after its first call failed
            return
        self._counted = at
        metrics.FOREIGN_KEYS.labels(self._service, topic).inc()
        if self._log_throttle(topic):
            log.warning(
                "a record's key is not the key of its event, so events of one key may come in several partitions, in "
                "no order: let its producer use that field as the key, or declare the topic with "
                'foreign_keys="accept"; more are counted by millstream_foreign_keys_total',
                code="foreign_key",
                service=self._service,
                handler=handler.name,
                topic=topic,
                partition=partition,
                offset=offset,
                type=contract.__name__,
                field=key_field(contract),
                record_key="none" if message.key() is None else "another one",
            )


def keeps_by_key(handler: Handler) -> bool:
    """Return whether a handler has state in the partition of its event: stores, timers or an inbox."""
    return handler.kind is Kind.KAFKA and bool(handler.stores or handler.sets_timers or handler.inbox is not None)


def checked_stores(service: Service) -> frozenset[Store[Any]]:
    """The stores that take only keys of their own partition.

    Left out are those of handlers that read a topic whose partitions follow another key (`foreign_keys="accept"`).
    """
    handlers = service.of_kind(Kind.KAFKA)
    free = {store for handler in handlers if _reads_any_key(handler) for store in handler.stores}
    return frozenset(store for handler in handlers for store in handler.stores) - free


def timer_ownership(service: Service, kind: Kind, partition: int) -> Ownership | None:
    """Return which keys the timers of one partition may have, if that can be known.

    As with stores, a topic whose partitions follow another key takes every key. So do topics with different numbers of
    partitions, where one number means different keys.
    """
    if len({topic.partitions for topic in service.consumed(kind)}) > 1:
        return None
    if any(handler.sets_timers and _reads_any_key(handler) for handler in service.of_kind(kind)):
        return None
    return Ownership("timers", PresentKey(), partition, service.partitions(kind))


def _reads_any_key(handler: Handler) -> bool:
    return any(topic.foreign_keys == "accept" for topic in handler.topics)


def _refuse(contract: type[Contract], message: Message) -> None:
    topic, field = message.topic(), key_field(contract)
    has = "has no key" if message.key() is None else "has another key"
    # No values: the key of a record that others wrote may be about a person.
    raise DecodeError(
        "foreign_key",
        f"the record of {topic}[{message.partition()}] at offset {message.offset()} {has}: it is not the "
        f"{contract.__name__}.{field} that it should be. Let its producer use {field} as the key and publish it again; "
        f'if the partitions of {topic!r} follow another key on purpose, declare Topic(..., foreign_keys="accept")',
    )
