"""Topics: one per business concept, declared once with the classes that live on it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import json

from millstream.declare.checks import MAX_NAME, check_duration, check_event_classes, check_name, check_one_of
from millstream.declare.contract import Contract, former_names, full_name, key_field
from millstream.declare.deleted import Deleted, deletion_of
from millstream.declare.durations import days
from millstream.declare.fields import check_fields
from millstream.errors import DeclarationError

FOREVER: Final = timedelta.max
"""Retention of a topic that is the truth: nothing is ever deleted."""

Format = Literal["avro", "protobuf", "json_schema", "json", "cloudevents"]
Subjects = Literal["topic_record", "topic", "record"]
Tombstones = Literal["handle", "skip", "refuse"]
ForeignKeys = Literal["refuse", "warn", "accept"]


class Topic:
    """A topic and the classes that live on it. Its name is typed here alone.

    - `name`: dotted, lower case, such as `"orders.events"`.
    - `contracts`: the event and command classes whose one home this is; they share one business key.
    - `partitions`: how many; the same for all topics that one store reads.
    - `retention`: how long records are kept; `FOREVER` for an event store.
    - `compacted`: keep the newest record of each key instead (retention does not apply).
    - `format`: `"avro"`, `"protobuf"` or `"json_schema"` with a schema registry; without one, for foreign topics,
      `"json"` (plain JSON objects without headers, all of one class) or `"cloudevents"` (whole CloudEvents in JSON,
      CloudEvents' structured mode, whose `type` is a class's full name or one of its aliases).
    - `subjects`: what the registry files schemas under: `"topic_record"` (topic and class), `"topic"` (the topic, which
      then has one class) or `"record"` (the class, wherever it travels).
    - `tombstones`: what becomes of records that have a key and no value. `"handle"`: they are deletions, which go to
      handlers of `Deleted[TheClass]`, and are passed over where there is none; `"skip"`: they are passed over;
      `"refuse"`: they become dead letters (`empty`). By default a compacted topic handles them, and others refuse them.
    - `foreign_keys`: what becomes of records whose key is not their event's key field, those without a key included.
      `"refuse"`: they become dead letters (`foreign_key`); `"warn"`: they are handled, counted and logged; `"accept"`:
      they are handled, for partitions follow another key on purpose, and stores do not check the keys that they get
      from handlers of this topic. By default handlers with stores, timers or an inbox in Kafka refuse them, and others
      warn.
    - `identity`: what tells an event from all others, for topics of producers that give several events one id, as
      Debezium does to all rows of a snapshot: the names of fields, or a function of the event. Inboxes, ids of derived
      events and idempotency keys go by it. Default: the source and the id that the event brings.

    Raises `DeclarationError` for a name that Kafka does not take, for what is no event or command class, for one that
    has a home already or no key or a field that the format cannot hold, and where classes could not be told apart.

    >>> from millstream.declare.contract import Event
    >>> class ParcelSent(Event, key="parcel_id"):
    ...     parcel_id: str
    >>> parcels = Topic("parcels.events", ParcelSent, retention=FOREVER)
    >>> parcels.dead_letters
    'parcels.events.dlq'
    """

    def __init__(
        self,
        name: str,
        *contracts: type[Contract],
        partitions: int = 6,
        retention: timedelta = days(7),
        compacted: bool = False,
        format: Format = "avro",
        subjects: Subjects = "topic_record",
        tombstones: Tombstones | None = None,
        foreign_keys: ForeignKeys | None = None,
        identity: Sequence[str] | Callable[[Any], str] | None = None,
    ) -> None:
        where = f"Topic {name!r}"
        # Its dead letters are a topic, too.
        check_name(where, name, limit=MAX_NAME - len(".dlq") if contracts else MAX_NAME)
        if not isinstance(partitions, int) or partitions < 1:  # pyright: ignore[reportUnnecessaryIsInstance] users without a type checker
            raise DeclarationError(f"{where} asks for {partitions} partitions; it needs at least 1")
        check_duration(where, "retention", retention)
        check_one_of(where, "format", format, get_args(Format))
        check_one_of(where, "subjects", subjects, get_args(Subjects))
        if tombstones is not None:
            check_one_of(where, "tombstones", tombstones, get_args(Tombstones))
        if foreign_keys is not None:
            check_one_of(where, "foreign_keys", foreign_keys, get_args(ForeignKeys))
        _check_contracts(where, contracts)
        if format == "json" and len(contracts) != 1:
            raise DeclarationError(f"Topic {name!r} is plain JSON, which names no class: list exactly one")
        if subjects == "topic" and len(contracts) != 1:
            raise DeclarationError(
                f"Topic {name!r} has one subject, which holds the versions of one class: "
                'list exactly one, or drop subjects="topic"'
            )
        self.name = name
        self.contracts = contracts
        self.partitions = partitions
        self.retention = retention
        self.compacted = compacted
        self.format: Format = format
        self.subjects: Subjects = subjects
        self.tombstones: Tombstones = tombstones or ("handle" if compacted else "refuse")
        self.foreign_keys: ForeignKeys | None = foreign_keys
        for contract in contracts:
            check_fields(contract, format)
        self.identity = identified_by(name, contracts, identity)
        for contract in contracts:
            key_field(contract)
            if contract.__home__ is not None:
                raise DeclarationError(
                    f"{contract.__name__} already lives on {contract.__home__.name!r}; an event has one home topic"
                )
            contract.__home__ = self

    @property
    def dead_letters(self) -> str:
        """The topic that takes what consumers of this one could not handle."""
        return f"{self.name}.dlq"

    def config(self) -> dict[str, str]:
        """The broker's topic configuration that this declaration means."""
        if self.compacted:
            return {"cleanup.policy": "compact"}
        milliseconds = -1 if self.retention == FOREVER else int(self.retention / timedelta(milliseconds=1))
        return {"cleanup.policy": "delete", "retention.ms": str(milliseconds)}

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"


def identified_by(
    topic: str, contracts: Sequence[type[Contract]], identity: Sequence[str] | Callable[[Any], str] | None
) -> Callable[[Any], str] | None:
    """Make the function of an event that tells it apart from others of its topic."""
    if identity is None or callable(identity):
        return identity
    if isinstance(identity, str) or not identity:
        raise DeclarationError(f"Topic {topic!r}: identity= takes names of fields, such as identity=('id', 'version')")
    for contract in contracts:
        missing = set(identity) - {field.name for field in msgspec.structs.fields(contract)}
        if missing:
            raise DeclarationError(
                f"Topic {topic!r}: {contract.__name__} has no {', '.join(sorted(missing))}, which identity= names"
            )
    names = tuple(identity)
    # With the class's name: two classes may have equal fields. In JSON, so that no value runs into the next.
    return lambda event: json.encode([type(event).__name__, *(getattr(event, name) for name in names)]).decode()


def home_of(contract: type[Contract]) -> Topic:
    """The one topic that a class lives on, and its deletions with it.

    Raises `DeclarationError` where no topic lists it, and for a deletion that its topic cannot carry.
    """
    if contract.__deletes__ is not None:
        return _home_of_deletions(contract.__deletes__)
    if contract.__home__ is None:
        raise DeclarationError(
            f'{contract.__name__} lives on no topic: list it in one, as in Topic("orders.events", {contract.__name__})'
        )
    return contract.__home__


def tombstone_of(topic: Topic) -> Deleted[Any] | None:
    """An event, still without its key, that stands for a record of `topic` without a value.

    `None` where the topic refuses such records. No handler takes the one of a topic that skips them.
    """
    if topic.tombstones == "refuse":
        return None
    if topic.tombstones == "skip" or len(topic.contracts) != 1:
        return Deleted[Any](key="")
    (contract,) = topic.contracts
    return deletion_of(contract)(key="")


def _check_contracts(where: str, contracts: tuple[type[Contract], ...]) -> None:
    check_event_classes(where, contracts, timers=False)
    known: dict[str, type[Contract]] = {}
    for contract in contracts:
        if contract.__deletes__ is not None:
            raise DeclarationError(
                f"{where}: {contract.__name__} lives where {contract.__deletes__.__name__} does; drop it here"
            )
        for name in (full_name(contract), *former_names(contract)):
            if known.setdefault(name, contract) is not contract:
                raise DeclarationError(
                    f"{where}: two of its classes are called {name}, so a record does not say which it is: rename one, "
                    "or give it another namespace= or aliases="
                )


def _home_of_deletions(contract: type[Contract]) -> Topic:
    topic = home_of(contract)
    if len(topic.contracts) != 1:
        names = ", ".join(other.__name__ for other in topic.contracts)
        raise DeclarationError(
            f"Deleted[{contract.__name__}]: Topic {topic.name!r} lists {names}, and a tombstone names no class: "
            "it would delete a key of any of them. Give the class a topic of its own"
        )
    if topic.tombstones != "handle":
        remedy = (
            'drop tombstones="skip"'
            if topic.tombstones == "skip"
            else 'declare it compacted=True, or, for a topic of others that carries tombstones, tombstones="handle"'
        )
        raise DeclarationError(
            f"Deleted[{contract.__name__}]: Topic {topic.name!r} has tombstones={topic.tombstones!r}, so none would "
            f"come to a handler: {remedy}"
        )
    return topic
