"""The schemas that the code declares: every class of every topic of a system, with its subject."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from millstream.contracts import json_schema, protobuf_schema, schema_text, subject_for
from millstream.declare import Service, System, Topic, Value, full_name, home_of
from millstream.errors import ConfigurationError, DeclarationError, did_you_mean

TYPES = {"avro": "AVRO", "protobuf": "PROTOBUF", "json_schema": "JSON"}
"""From the format of a topic to what a registry calls it. Plain `json` has no schema and no subject."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One class in its place: `text` is its schema, `type` the registry's name of the language."""

    topic: str
    contract: type[Value]
    subject: str
    type: str
    text: str

    @property
    def name(self) -> str:
        """The full name of the class, as in schemas."""
        return full_name(self.contract)


def declared(system: System) -> list[Declared]:
    """Every class of every topic of the system and of its stores, by subject. Raises `DeclarationError`."""
    services = system.services()
    found = {
        entry.subject: entry for topic in topics_of(services) if topic.format in TYPES for entry in _classes_of(topic)
    }
    for service in services:
        for store in service.stores():
            entry = _declared(store.changelog(service.name), store.value)
            found[entry.subject] = entry
    return [found[subject] for subject in sorted(found)]


def topics_of(services: tuple[Service, ...]) -> list[Topic]:
    """The topics that these services read and write, by name."""

    def all_of(service: Service) -> Iterator[Topic]:
        yield from service.consumed()
        yield from (home_of(contract) for contract in service.produced())

    found = {topic.name: topic for service in services for topic in all_of(service)}
    return [found[name] for name in sorted(found)]


def schema_in(format: str, contract: type[Value]) -> str:
    """The schema of a class in one format: `avro`, `protobuf` or `json_schema`.

    Raises `ConfigurationError` for another, `DeclarationError` where the format cannot express the class.

    >>> class Weighed(Value, namespace="scale"):
    ...     grams: int
    >>> schema_in("avro", Weighed)[:32]
    '{"type":"record","name":"Weighed'
    """
    match format:
        case "avro":
            return schema_text(contract)
        case "protobuf":
            return protobuf_schema(contract)
        case "json_schema":
            return msgspec.json.encode(json_schema(contract)).decode()
        case _:
            raise ConfigurationError(f"There is no schema in {format!r}; take one of {', '.join(TYPES)}")


def _classes_of(topic: Topic) -> Iterator[Declared]:
    for contract in topic.contracts:
        yield _declared(topic, contract)


def _declared(topic: Topic | str, contract: type[Value]) -> Declared:
    """Changelogs, which have no `Topic`, are Avro."""
    name, format = (topic.name, topic.format) if isinstance(topic, Topic) else (topic, "avro")
    subject = subject_for(topic, full_name(contract))
    return Declared(name, contract, subject, TYPES[format], schema_in(format, contract))


def find_class(system: System, name: str) -> tuple[type[Value], str]:
    """The class called `name`, shortly or in full, and the format of its topic. Raises `DeclarationError`."""
    classes: dict[type[Value], str] = {}
    services = system.services()
    for topic in topics_of(services):
        classes |= dict.fromkeys(topic.contracts, topic.format)
    for service in services:
        classes |= {store.value: "avro" for store in service.stores()}
    found = {of: format for of, format in classes.items() if name in (of.__name__, full_name(of))}
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise DeclarationError(f"{name!r} is {' and '.join(full_name(of) for of in found)}; say which")
    known = ", ".join(sorted(of.__name__ for of in classes))
    meant = did_you_mean(name, [of.__name__ for of in classes])
    raise DeclarationError(f"{system.name} has no class {name!r}{meant} on a topic or in a store; it has {known}")
