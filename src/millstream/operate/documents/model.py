"""The model of a system's documentation: topics, the classes on them, their fields, who sends and who receives."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from millstream.declare import FOREVER, Command, Contract, Handler, Service, System, Timer, Topic, home_of, key_field
from millstream.declare.personal import is_personal
from millstream.declare.reading import shape_of
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Field,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
)
from millstream.operate.schemas.declared import topics_of


@dataclass(frozen=True, slots=True)
class FieldTold:
    """One field for a reader's eyes."""

    name: str
    type: str
    doc: str
    default: str | None
    """None where it is required."""
    personal: bool
    deprecated: str | None


@dataclass(frozen=True, slots=True)
class ClassTold:
    """An event, a command or a value inside of them. `title` is its name without the namespace."""

    name: str
    title: str
    doc: str
    fields: tuple[FieldTold, ...]


@dataclass(slots=True)
class MessageTold:
    """A class on its topic, with who sends and who receives it: `service` or `service.handler`."""

    contract: type[Contract]
    told: ClassTold
    kind: str
    producers: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class TopicTold:
    """A topic and what is on it."""

    topic: Topic
    retention: str
    key: str
    messages: list[MessageTold]
    senders: dict[str, list[type[Contract]]] = field(default_factory=dict)
    """By service."""
    receivers: dict[str, list[type[Contract]]] = field(default_factory=dict)


@dataclass(slots=True)
class SystemTold:
    """The documentation of a system; equal for equal declarations."""

    name: str
    topics: list[TopicTold]
    values: list[ClassTold]
    services: tuple[Service, ...]


def tell(system: System) -> SystemTold:
    """Reads the declaration. Raises `DeclarationError` for what cannot be expressed."""
    services = system.services()
    topics = [_topic(topic, _deletions(topic, services)) for topic in topics_of(services)]
    messages = {message.contract: (topic, message) for topic in topics for message in topic.messages}
    for service in services:
        for contract, place in _sent(service):
            topic, message = messages[contract]
            _note(message.producers, place)
            _note(topic.senders.setdefault(service.name, []), contract)
        for handler in service.handlers:
            # Timers never leave their service, so no topic carries them for others.
            for contract in (of for of in handler.consumes if not issubclass(of, Timer)):
                topic, message = messages[contract]
                _note(message.consumers, f"{service.name}.{handler.name}")
                _note(topic.receivers.setdefault(service.name, []), contract)
    records = {record.name: record for of in messages for record in _records(shape_of(of))}
    own = {message.told.name for _, message in messages.values()}
    values = [_told(records[name]) for name in sorted(records) if name not in own]
    return SystemTold(system.name, topics, values, services)


def type_of(shape: Shape | None) -> str:
    """Return the type of a field in words.

    >>> from millstream.declare import Value
    >>> class Line(Value, namespace="shop"):
    ...     tags: tuple[str, ...] = ()
    >>> type_of(shape_of(Line).fields[0].shape)
    'list of text'
    """
    match shape:
        case None:
            return "nothing"
        case Scalar(python=python):
            return _WORDS.get(python.__name__, python.__name__)
        case Decimals(precision, scale):
            return f"decimal({precision}, {scale})"
        case Symbols(members=members):
            return f"one of {', '.join(members)}"
        case Items(container, item):
            return f"{'set' if container in (set, frozenset) else 'list'} of {type_of(item)}"
        case Fixed(parts=parts):
            return f"({', '.join(map(type_of, parts))})"
        case Entries(value):
            return f"{type_of(value)} by text"
        case OneOf(written=written):
            return " or ".join(type_of(branch) for branch in written)
        case Record(name=name):
            return name.rpartition(".")[2]


_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "yes or no",
    "datetime": "moment",
    "timedelta": "duration",
    "UUID": "uuid",
}


def _topic(topic: Topic, deletions: list[type[Contract]]) -> TopicTold:
    messages = [MessageTold(of, _told(shape_of(of)), _kind(of)) for of in (*topic.contracts, *deletions)]
    key = " or ".join(dict.fromkeys(key_field(of) for of in topic.contracts))
    return TopicTold(topic, _retention(topic), key, messages)


def _deletions(topic: Topic, services: tuple[Service, ...]) -> list[type[Contract]]:
    """The deletions on a topic that any of the services sends or takes."""
    named = [
        of for service in services for handler in service.handlers for of in (*handler.consumes, *handler.produces)
    ]
    named += [of for service in services for of in service.publishes]
    return [of for of in dict.fromkeys(named) if of.__deletes__ is not None and home_of(of) is topic]


def _kind(contract: type[Contract]) -> str:
    if contract.__deletes__ is not None:
        return "deletion"
    return "command" if issubclass(contract, Command) else "event"


def _retention(topic: Topic) -> str:
    if topic.compacted:
        return "the newest record of each key"
    return "for ever" if topic.retention == FOREVER else f"for {_duration(topic.retention)}"


def _duration(span: timedelta) -> str:
    for unit, size in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if span >= size and not span % size:
            return f"{span // size} {unit}{'' if span == size else 's'}"
    return f"{span.total_seconds():g} seconds"


def _sent(service: Service) -> Iterator[tuple[type[Contract], str]]:
    def of(handler: Handler) -> Iterator[tuple[type[Contract], str]]:
        yield from ((contract, f"{service.name}.{handler.name}") for contract in handler.produces)

    for handler in service.handlers:
        yield from of(handler)
    for contract in service.publishes:
        assert home_of(contract)
        yield contract, service.name


def _told(record: Record) -> ClassTold:
    doc = record.python.__doc__ or ""
    annotations = {f.name: f.type for f in msgspec.structs.fields(record.python)}
    fields = tuple(_field(inner, annotations[inner.attribute]) for inner in record.fields)
    return ClassTold(record.name, record.python.__name__, " ".join(doc.split()), fields)


def _field(inner: Field, annotation: object) -> FieldTold:
    default = None if inner.default is REQUIRED else _default(inner.default)
    return FieldTold(
        inner.name, type_of(inner.shape), inner.doc or "", default, is_personal(annotation), inner.deprecated
    )


def _default(value: object) -> str:
    if value is None:
        return "nothing"
    if value in ((), [], {}) or value in (set(), frozenset()):
        return "empty"
    return str(getattr(value, "value", value))


def _records(shape: Shape | None, found: dict[str, Record] | None = None) -> list[Record]:
    found = {} if found is None else found
    match shape:
        case Record(name=name) if name not in found:
            found[name] = shape
            for inner in shape.fields:
                _records(inner.shape, found)
        case Items(item=inner) | Entries(value=inner):
            _records(inner, found)
        case Fixed(parts=parts):
            for part in parts:
                _records(part, found)
        case OneOf(branches=branches):
            for branch in branches:
                _records(branch, found)
        case _:
            pass
    return list(found.values())


def _note(names: list[Any], name: Any) -> None:
    if name not in names:
        names.append(name)
