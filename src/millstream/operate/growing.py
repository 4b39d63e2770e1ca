"""Gives topics the partitions that they are declared with, all that must agree at once, or says what is against it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import func, select

from millstream.declare import Kind, Service
from millstream.kafka import Admin, Kafka
from millstream.operate.assembly import topics_of
from millstream.settings import Settings


class Growth(NamedTuple):
    """A plan of growth.

    - `topics`: how many partitions each topic has, and is to have.
    - `against`: what stands against it; nothing may be done then.
    - `missing`: declared topics that do not exist.
    """

    topics: dict[str, tuple[int, int]]
    against: tuple[str, ...]
    missing: tuple[str, ...]


def plan_growth(services: Sequence[Service], settings: Settings, kafka: Kafka, admin: Admin) -> Growth:
    """Compare what all services of a system declare with the cluster. Raises `Unavailable`."""
    there = admin.topics()
    wanted: dict[str, int] = {}
    for service in services:
        for spec in topics_of(service):
            wanted[spec.name] = max(spec.partitions, wanted.get(spec.name, 0))
    topics = {
        name: (there[name].partitions, count)
        for name, count in sorted(wanted.items())
        if name in there and there[name].partitions < count
    }
    against = [
        reason
        for service in services
        for kind in service.kinds()
        if any(topic.name in topics for topic in service.consumed(kind))
        for reason in _against(service, kind, settings, kafka, admin)
    ]
    return Growth(topics, tuple(against), tuple(sorted(wanted.keys() - there.keys())))


def _against(service: Service, kind: Kind, settings: Settings, kafka: Kafka, admin: Admin) -> Iterator[str]:
    group = service.group(kind)
    kept = [f"the store {store.name}" for store in service.stores()] if kind is Kind.KAFKA else []
    kept += (
        [f"the timers {', '.join(timer.__name__ for timer in service.timers(kind))}"] if service.timers(kind) else []
    )
    if kind is Kind.KAFKA and any(handler.inbox for handler in service.of_kind(kind)):
        kept.append("an inbox")
    if kept:
        yield (
            f"{service.name} keeps {', '.join(kept)} by partition: about every key that moves to a new partition would "
            "begin there with empty state, and what it has would stay behind"
        )
    if members := admin.group_members(group):
        yield (
            f"{group} has {members} members at work, which know the topics by the number of partitions that there are. "
            f"Stop {service.name}; an instance that was stopped counts until its session has run out "
            "(MILLSTREAM_SESSION_TIMEOUT_MS)"
        )
    lags = admin.group_lag(group, [topic.name for topic in service.consumed(kind)])
    if behind := sum(lag.lag for lag in lags):
        yield (
            f"{group} has {behind} records to read yet: a key's next events may go to another partition and be handled "
            "before them. Let it catch up while nothing is published"
        )
    if parked := _parked(service, kind, settings, kafka, admin):
        yield (
            f"{group} has {parked} parked events: a key's next events may go to another partition and not wait behind "
            "them. See `millstream dlq list`"
        )


def _parked(service: Service, kind: Kind, settings: Settings, kafka: Kafka, admin: Admin) -> int:
    if kind is Kind.SQL:
        from millstream.runtime.sql.database import open_database
        from millstream.runtime.sql.tables import internal_stores_table

        engine = open_database(service, settings)
        try:
            with engine.connect() as connection:
                of_group = internal_stores_table.c.group_id == service.group(kind)
                mine = select(func.count()).where(of_group, internal_stores_table.c.store == "parked")
                return connection.execute(mine).scalar_one()
        finally:
            engine.dispose()
    topic = service.parked_topic(kind)
    if topic not in admin.topics():
        return 0
    waiting: set[bytes | None] = set()
    for batch in kafka.read_to_end(topic):
        for message in batch:
            (waiting.discard if message.value() is None else waiting.add)(message.key())
    return len(waiting)
