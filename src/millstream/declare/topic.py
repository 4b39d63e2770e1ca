"""Topics: one per business concept, declared once with the classes that live on it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec
from msgspec import json

from millstream.declare.contract import Contract, key_field
from millstream.declare.durations import days
from millstream.errors import DeclarationError

FOREVER: Final = timedelta.max
"""Retention of a topic that is the truth: nothing is ever deleted."""

Format = Literal["avro", "protobuf", "json_schema", "json", "cloudevents"]
Subjects = Literal["topic_record", "topic", "record"]
Tombstones = Literal["handle", "skip", "refuse"]


class Topic:
    """A topic and the classes that live on it. Nobody else types its name.

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
    - `identity`: what tells an event from all others, for topics of producers that give several events one id, as
      Debezium does to all rows of a snapshot: the names of fields, or a function of the event. Inboxes, ids of derived
      events and idempotency keys go by it. Default: the source and the id that the event brings.

    Raises `DeclarationError` for a class that has a home already or no key, and where classes could not be told apart.

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
        identity: Sequence[str] | Callable[[Any], str] | None = None,
    ) -> None:
        if partitions < 1:
            raise DeclarationError(f"Topic {name!r} asks for {partitions} partitions; it needs at least 1")
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
    """How the events of a topic are told apart, as a function of the event."""
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
