"""The services of a system as processes of a world: each with its workers, but without its web application."""

import threading
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import cache
from typing import Any

from sqlalchemy import Engine

from millstream.contracts import Contracts
from millstream.declare import Service
from millstream.errors import Unavailable
from millstream.kafka import Kafka, TopicPartition
from millstream.operate.assembly import assemble_handlers, topics_of
from millstream.operate.run import Crew
from millstream.runtime.sql.database import open_database
from millstream.runtime.worker import Worker
from millstream.settings import Settings, load_settings
from millstream.telemetry import Health, Tracer
from millstream.testing.simulation.cluster.registry import SimulatedRegistry
from millstream.testing.simulation.world.handler_errors import with_errors
from millstream.testing.simulation.world.world import World

QUIET_SECONDS = 9.0
"""After that long without a write there is nothing more to do: no pause between two attempts is longer."""

PARTITIONS = 2
"""Of topics that are declared with more: two instances share them out as they would any number, and it takes less."""


class Services:
    """Services of one system in a world.

    - `providers`: functions in place of those that provide resources of effects, by class; see `Service.provides`.

    Topics and schemas exist from then on; nothing runs before `start`.

        services = Services(world, system.services(), providers={Gateway: gateway})
        services.start({"payment": 2})
        services.settle(seconds=600)
    """

    def __init__(
        self, world: World, services: Iterable[Service], providers: Mapping[type, Callable[..., Any]] | None = None
    ) -> None:
        self._world = world
        services = tuple(services)
        self.contracts = _contracts(services)
        self._services = {service.name: _simulated(world, service, providers or {}) for service in services}
        self._groups = {
            group: topics for service in self._services.values() for group, topics in _groups(service).items()
        }
        specs = {
            spec.name: spec._replace(partitions=min(PARTITIONS, spec.partitions))
            for service in self._services.values()
            for spec in topics_of(service)
        }
        self._partitions = [(spec.name, number) for spec in specs.values() for number in range(spec.partitions)]
        self._admin = world.kafka(self.settings()).admin()
        self._admin.ensure_topics(list(specs.values()))

    def settings(self, slot: int = 0) -> Settings:
        """Return an instance's settings, with time-outs short enough for faults to have an effect."""
        return _settings(slot).model_copy(update={"data_dir": self._world.folder})

    def start(self, instances: Mapping[str, int]) -> None:
        """Start that many instances of each service, one of those that `instances` does not name."""
        for name, service in self._services.items():
            for slot in range(instances.get(name, 1)):
                self._world.process(f"{name}-{slot}", lambda service=service, slot=slot: self._run(service, slot))

    def settle(self, seconds: float) -> None:
        """Let the world go on until everything is read and nothing more is written. Raises TimeoutError."""
        ends, since = None, self._world.now

        def quiet() -> bool:
            nonlocal ends, since
            found = self._ends()
            if found is None or found != ends:
                ends, since = found, self._world.now
            if self._world.now - since < QUIET_SECONDS * 1_000_000:
                return False
            # A frozen process may hold what only it would publish.
            return not any(process.frozen for process in self._world.processes) and not self._behind()

        try:
            self._world.until(quiet, seconds, "all to be read and nothing more to be written", every=1.0)
        except TimeoutError as late:
            raise TimeoutError(f"{late}; behind are {self._behind()}") from None

    def _ends(self) -> dict[TopicPartition, int] | None:
        """Return the ends of all partitions; None where no broker answers."""
        try:
            return self._admin.end_offsets(self._partitions, "read_uncommitted")
        except Unavailable:  # asked again
            return None

    def _behind(self) -> list[str]:
        """Describe the groups that have not read everything, with the lag of each."""
        behind: list[str] = []
        for group, topics in self._groups.items():
            try:
                found = self._admin.group_lag(group, topics)
            except Unavailable:
                behind.append(f"{group}: a transaction is open")
            else:
                behind += [f"{group}: {each.topic}[{each.partition}] by {each.lag}" for each in found if each.lag]
        return behind

    def _run(self, service: Service, slot: int) -> None:
        settings, stop = self.settings(slot), threading.Event()
        kafka: Kafka = self._world.kafka(settings, f"{service.name}-{slot}")

        @cache
        def engine() -> Engine:
            return open_database(service, settings)

        try:
            workers, late = assemble_handlers(
                service, settings, self.contracts, kafka, engine, health=Health(), tracer=Tracer()
            )
            crew = Crew(
                [_RecordedWorker(self._world, each) for each in workers],
                [_RecordedWorker(self._world, each) for each in late],
                stop,
            )
            crew.start()
            stop.wait()
            crew.finish()
        finally:
            if engine.cache_info().currsize:
                engine().dispose()
        raise RuntimeError("a worker failed; the process is to be started again")


class _RecordedWorker:
    """A worker whose failure is part of the timeline."""

    def __init__(self, world: World, worker: Worker) -> None:
        self.name = worker.name
        self._world, self._worker = world, worker

    def run(self, stop: threading.Event) -> None:
        try:
            self._worker.run(stop)
        except Exception as error:
            self._world.record(self._world.incarnation.name, f"{self.name} fails: {type(error).__name__}: {error}")
            raise


@cache
def _contracts(services: tuple[Service, ...]) -> Contracts:
    """Register the schemas of these services, in one order; they outlast a world, because they never change."""
    contracts = Contracts(SimulatedRegistry())
    for service in services:
        contracts.register(service.produced())
    return contracts


@cache
def _settings(slot: int) -> Settings:
    return load_settings(slot=slot, session_timeout_ms=6_000, heartbeat_interval_ms=1_000, commit_interval_ms=50)


def _simulated(world: World, service: Service, providers: Mapping[type, Callable[..., Any]]) -> Service:
    mine = copy(service)
    mine.handlers = [with_errors(world, handler) for handler in service.handlers]
    mine.providers = {**service.providers, **{kind: providers[kind] for kind in service.providers if kind in providers}}
    return mine


def _groups(service: Service) -> dict[str, list[str]]:
    groups = {service.group(kind): [topic.name for topic in service.consumed(kind)] for kind in service.kinds()}
    return groups | {background.group: [background.topic] for background in service.background}
