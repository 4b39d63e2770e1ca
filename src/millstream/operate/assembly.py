"""Assembly of one process of a service from its declaration."""

import threading
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from millstream.contracts import Contracts, Registry
from millstream.declare import FOREVER, Kind, Service, Topic, days, home_of, load
from millstream.errors import RegistryUnavailable, Unavailable
from millstream.kafka import Kafka, TopicSpec
from millstream.runtime.loop.topic_watch import TopicWatch
from millstream.runtime.worker import Worker
from millstream.settings import Settings, without_credentials
from millstream.telemetry import Health, Tracer
from millstream.telemetry.lean import without
from millstream.timeouts import REQUEST_POLL_SHARE, START_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class Assembly(NamedTuple):
    """The workers of a process. The late ones finish what the others leave behind, so they stop after them."""

    workers: list[Worker]
    late: list[Worker]
    url: str | None
    """The URL of its web application, if it has one."""


def topics_of(service: Service) -> list[TopicSpec]:
    """The topics that a service needs: what it reads, with their dead letters, what it writes, its changelogs, and
    what is parked and redriven.

    >>> from millstream.declare import Event
    >>> class Weighed(Event, key="parcel"):
    ...     parcel: str
    >>> weights = Topic("weights", Weighed, partitions=3)
    >>> scale = Service("scale")
    >>> @scale.on(Weighed)
    ... def note(weighed: Weighed) -> None: ...
    >>> [(spec.name, spec.partitions) for spec in topics_of(scale)]
    [('weights', 3), ('weights.dlq', 3), ('scale.kafka.redrive', 3), ('scale.kafka.parked', 3)]
    """
    specs: dict[str, TopicSpec] = {}

    def need(topic: Topic) -> None:
        specs.setdefault(topic.name, TopicSpec(topic.name, topic.partitions, topic.config()))

    for topic in service.consumed():
        need(topic)
        need(Topic(topic.dead_letters, partitions=topic.partitions, retention=FOREVER))
    for contract in service.produced():
        need(home_of(contract))
    for store in service.stores():
        partitions = service.consumed(Kind.KAFKA)[0].partitions
        need(Topic(store.changelog(service.name), partitions=partitions, compacted=True))
    for kind in service.kinds():
        partitions = service.partitions(kind)
        need(Topic(service.redrive_topic(kind), partitions=partitions, retention=days(7)))
        if kind is not Kind.SQL:
            need(Topic(service.parked_topic(kind), partitions=partitions, compacted=True))
        if kind is Kind.KAFKA and service.timers(kind):
            need(Topic(service.timers_topic(kind), partitions=partitions, compacted=True))
        if service.timers(kind):
            need(Topic(f"{service.timers_topic(kind)}.dlq", partitions=partitions, retention=FOREVER))
        if kind is Kind.KAFKA and any(handler.inbox for handler in service.of_kind(kind)):
            need(Topic(service.inbox_topic(kind), partitions=partitions, compacted=True))
    for background in service.background:
        partitions = specs[background.topic].partitions
        need(Topic(f"{background.topic}.dlq", partitions=partitions, retention=FOREVER))
    return list(specs.values())


def prepare(service: Service, settings: Settings, kafka: Kafka) -> Contracts:
    """Makes the topics that are missing and registers the schemas of what the service writes. Bounded; may be repeated.

    Raises `Unavailable`, `RegistryUnavailable`, `IncompatibleSchema` or `ConfigurationError`.
    """
    admin = kafka.admin()
    try:
        admin.ensure_topics(topics_of(service), timeout=START_TIMEOUT)
    except Unavailable as error:
        raise Unavailable(
            f"{error} MILLSTREAM_BOOTSTRAP_SERVERS is {settings.bootstrap_servers}: does the cluster run there?"
        ) from error
    finally:
        admin.close()
    registry = Registry(settings.registry_url, timeout=START_TIMEOUT)
    contracts = Contracts(registry)
    try:
        contracts.register(service.produced())
    except RegistryUnavailable as error:
        url = without_credentials(settings.registry_url)
        raise RegistryUnavailable(f"{error}. MILLSTREAM_REGISTRY_URL is {url}: is that the registry?") from error
    # Workers ask between two polls.
    registry.timeout = min(START_TIMEOUT, REQUEST_POLL_SHARE * settings.poll_interval_ms / 1000)
    return contracts


def assemble(
    service: Service, settings: Settings, contracts: Contracts, kafka: Kafka, *, health: Health, tracer: Tracer
) -> Assembly:
    """Makes all workers of a service; nothing runs yet. A kind of handler that it does not have costs nothing."""

    @cache
    def engine() -> "Engine":
        from millstream.runtime.sql.database import open_database

        return open_database(service, settings)

    workers, late = assemble_handlers(service, settings, contracts, kafka, engine, health=health, tracer=tracer)
    if service.web is None:
        return Assembly([*workers, TopicWatch(service, kafka, topics_of(service), health)], late, None)
    from millstream.http.web import Web, WebServer

    web = Web(service, settings, contracts, kafka, engine=engine, health=health, tracer=tracer)
    factory: Any = load(service.web, object)
    # FastAPI asks of each route whether its models are pydantic's of old, only to refuse them: 1.5 MB for the question.
    with without("pydantic.v1"):
        app = factory(web)
    server = WebServer(app, web)
    watch = TopicWatch(service, kafka, [*topics_of(service), *web.followed], health)
    return Assembly([*workers, watch, server], [*late, *web.workers], server.url)


def assemble_handlers(
    service: Service,
    settings: Settings,
    contracts: Contracts,
    kafka: Kafka,
    engine: "Callable[[], Engine]",
    *,
    health: Health,
    tracer: Tracer,
) -> tuple[list[Worker], list[Worker]]:
    """The workers of a service but those of its web application: the early and the late ones."""
    workers: list[Worker] = []
    late: list[Worker] = []
    kinds = service.kinds()
    if Kind.KAFKA in kinds:
        from millstream.runtime.kafka.worker import KafkaWorker

        workers.append(KafkaWorker(service, settings, contracts, kafka, tracer=tracer, health=health))
    if Kind.SQL in kinds:
        from millstream.runtime.sql.worker import SqlWorker

        wake = threading.Event()
        workers.append(SqlWorker(service, settings, contracts, kafka, engine(), wake, tracer, health=health))
        if service.delivery == "exactly_once" and settings.relay:
            from millstream.runtime.sql.relay import Relay

            late.append(Relay(service, kafka, engine(), wake, client_bytes=settings.message_bytes))
    if Kind.EFFECT in kinds:
        from millstream.runtime.effect.worker import EffectWorker

        workers.append(EffectWorker(service, settings, contracts, kafka, tracer=tracer, health=health))
    workers += [background.worker(settings, contracts, kafka, health=health) for background in service.background]
    return workers, late
