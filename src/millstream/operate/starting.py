"""The start of a group that has read nothing yet, if it is a new one at all.

A service that was renamed, or has lost its database or its committed offsets, looks like a new one: it would handle the
whole history again and publish all that came of it once more. What it publishes, and the state that it keeps, tell.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from millstream.declare import Kind, Service, full_name, home_of
from millstream.errors import ConfigurationError
from millstream.kafka import BEGINNING, END, Admin, Kafka, Offsets, TopicPartition
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.runtime.sql.positions import forget_positions, known_positions, move_positions
from millstream.settings import Settings
from millstream.telemetry import get_logger

log = get_logger(__name__)

TAIL = 200
"""Records at the end of each partition that are looked at for what was published before."""


class Found(NamedTuple):
    """Evidence that a group is not the first to handle its events."""

    what: str
    where: str
    by: str


def begin(service: Service, names: Iterable[str], settings: Settings, kafka: Kafka) -> None:
    """Let each kind of handler that has read nothing begin where the service declares it. Called before workers start.

    - `names`: of the services of the system as it is.

    Raises `ConfigurationError` where the database of a group is not the one that it had, and, unless `start=` is
    declared, where what it would publish is there already.
    """
    admin = kafka.admin()
    try:
        for kind in service.kinds():
            _begin(service, kind, frozenset(names), settings, kafka, admin)
    finally:
        admin.close()


def _begin(service: Service, kind: Kind, names: frozenset[str], settings: Settings, kafka: Kafka, admin: Admin) -> None:
    group, topics = service.group(kind), [topic.name for topic in service.consumed(kind)]
    committed = admin.group_offsets(group)
    if in_database(service, kind):
        if known_in_database(service, settings, group):
            return
        told = sum(found.offset or 0 for at, found in committed.items() if at[0] in topics)
        if told:
            raise ConfigurationError(
                f"The database of {service.name} knows no position of group {group!r}, which has handled events up to "
                f"offsets of {told} in sum: it is another database, or it was emptied. Put it back from a backup; or "
                f"stop {service.name} and say where it shall begin with this one: {ways(service)}"
            )
    elif committed:
        return
    partitions = partitions_of(admin, topics)
    first, last = admin.offsets_at(partitions, BEGINNING), admin.end_offsets(partitions)
    events = sum(last[at] - first[at] for at in partitions)
    if service.start is not None:
        offsets = admin.offsets_at(partitions, moment(service.start))
        log.info(
            "start position",
            code="start_position",
            service=service.name,
            group=group,
            start=str(service.start),
            events=events,
        )
        try:
            set_positions(service, kind, offsets, settings, kafka, admin)
        except ConfigurationError:
            # Another instance was quicker: the group has members, and is not new any more.
            if not admin.group_offsets(group):
                raise
    elif events and (found := earlier(service, kind, names, kafka, admin)) is not None:
        raise ConfigurationError(
            f"Group {group!r} has read nothing yet, and {', '.join(topics)} hold about {events} records; but "
            f"{found.what} in {found.where} {found.by}. It would handle all of them, and publish again what came of "
            f"them. Was the service renamed, or were its committed offsets lost? Say where it shall begin: "
            f"{ways(service)}; see `millstream help start-position`"
        )
    elif not in_database(service, kind):
        # From now on it is no new group, also while no event has come.
        with suppress(ConfigurationError):  # another instance was quicker
            admin.set_group_offsets(group, dict.fromkeys(partitions_of(admin, [service.redrive_topic(kind)]), 0))


def ways(service: Service) -> str:
    """Name the commands that say where a service begins."""
    command = f"`millstream reset {service.name}"
    return (
        f"{command} --to earliest` handles everything again, {command} --to latest` only what is new, "
        f"{command} --to 2026-01-31T12:00:00Z` what came since, {command} --like OLD_SERVICE` what that one has not "
        "handled"
    )


def in_database(service: Service, kind: Kind) -> bool:
    """Return whether the positions of these handlers are in the service's database."""
    return kind is Kind.SQL and service.delivery == "exactly_once"


def known_in_database(service: Service, settings: Settings, group: str) -> bool:
    """Return whether the service's database has any position of the group, of any topic."""
    from millstream.runtime.sql.database import open_database

    engine = open_database(service, settings)
    try:
        with engine.begin() as connection:
            return known_positions(connection, group)
    finally:
        engine.dispose()


def moment(start: str | datetime) -> int:
    """A start position as `Admin.offsets_at` takes it."""
    if isinstance(start, datetime):
        return int(start.timestamp() * 1000)
    return BEGINNING if start == "earliest" else END


def partitions_of(admin: Admin, topics: Iterable[str]) -> list[TopicPartition]:
    """The partitions of these topics that are there."""
    there = admin.topics()
    return [(topic, number) for topic in topics if topic in there for number in range(there[topic].partitions)]


def set_positions(
    service: Service, kind: Kind, offsets: Offsets, settings: Settings, kafka: Kafka, admin: Admin
) -> None:
    """Let one kind of handlers read on from these offsets, with what state there is.

    Raises `ConfigurationError` while the group has members.
    """
    group = service.group(kind)
    redrives = admin.end_offsets(partitions_of(admin, [service.redrive_topic(kind)]))
    admin.set_group_offsets(group, {**offsets, **redrives})
    if not in_database(service, kind):
        return
    from millstream.runtime.sql.database import open_database

    ids = TopicIds(kafka, group, [topic for topic, _ in {**offsets, **redrives}]).refresh()
    engine = open_database(service, settings)
    try:
        with engine.begin() as connection:
            forget_positions(connection, group)
            move_positions(connection, group, {}, {**offsets, **redrives}, ids)
    finally:
        engine.dispose()


def earlier(service: Service, kind: Kind, names: frozenset[str], kafka: Kafka, admin: Admin) -> Found | None:
    """Return the evidence that another group has handled the events of these handlers before; None where there is none.

    With delivery at least once, a service's own records say nothing: they are written before its offsets are committed.
    """
    own = service.delivery == "exactly_once"
    if own and kind is not Kind.SQL:
        for topic in state_topics(service, kind):
            if any(True for _ in _records(kafka, admin, topic, None)):
                return Found("its state is", topic, "already, made of events that it has handled")
    handlers = service.of_kind(kind)
    # What its web handlers publish says nothing about what its other handlers have done.
    made = {contract for handler in handlers for contract in handler.produces} - set(service.publishes)
    types = {full_name(contract): contract for contract in made}
    for topic in sorted({home_of(contract).name for contract in made}):
        for headers in _records(kafka, admin, topic, TAIL):
            kind_of, source = headers.get("ce_type", b"").decode("utf-8", "replace"), headers.get("ce_source", b"")
            by = source.decode("utf-8", "replace")
            if kind_of in types and ((own and by == service.name) or by not in names):
                return Found(f"{types[kind_of].__name__} events are", topic, f"already, published by {by!r}")
    return None


def state_topics(service: Service, kind: Kind) -> list[str]:
    """The topics that hold what one kind of handlers keeps in Kafka."""
    found = [service.parked_topic(kind)]
    if kind is Kind.KAFKA:
        found += [store.changelog(service.name) for store in service.stores()]
        found += [service.timers_topic(kind)] if service.timers(kind) else []
        found += [service.inbox_topic(kind)] if any(handler.inbox for handler in service.of_kind(kind)) else []
    return found


def _records(kafka: Kafka, admin: Admin, topic: str, tail: int | None) -> Iterator[dict[str, bytes]]:
    """The headers of the last so many committed records of each partition, or of all."""
    partitions = partitions_of(admin, [topic])
    ends = admin.end_offsets(partitions)
    start = {at: max(0, end - tail) for at, end in ends.items()} if tail is not None else {}
    for batch in (
        kafka.read_to_end(topic, [number for _, number in partitions], start=start) if any(ends.values()) else ()
    ):
        for message in batch:
            yield {name: value for name, value in message.headers() or () if value is not None}
