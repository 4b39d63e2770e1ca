"""A service of one kind, its workers as a process runs them, and a Kafka whose calls can be made to hang."""

import ctypes
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, String, Table
from sqlalchemy import event as sqlalchemy_event

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import (
    FOREVER,
    Call,
    Command,
    Event,
    OnFailure,
    Retry,
    Service,
    Timer,
    Timers,
    Topic,
    Value,
    dead_letter,
    seconds,
)
from millstream.errors import Unavailable
from millstream.http import Web
from millstream.kafka import Message, connect
from millstream.operate.assembly import assemble, topics_of
from millstream.operate.run import Crew, Exit
from millstream.patterns.aggregate import Aggregate, decides, evolves
from millstream.patterns.view import View
from millstream.patterns.view.sql import SqlSink
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer, Watchdog, metrics
from millstream.testing.child import wait_until
from millstream.timeouts import LOOK_SECONDS

SILENT, HUNG = 6 * LOOK_SECONDS, 12 * LOOK_SECONDS
STEP = 2 * LOOK_SECONDS
"""What the clock of the watchdog is put forward by: as much as it counts at once."""

houses: dict[str, "House"] = {}


class Gate:
    """Lets calls through until it is closed for their name; they wait there until it is `open`.

    - `unanswered`: by worker and name, how many calls from now on nobody answers.
    """

    def __init__(self) -> None:
        self.closed = ""
        self.unanswered: dict[tuple[str, str], float] = {}
        self.entered = threading.Event()
        self._open = threading.Event()

    def through(self, name: str) -> None:
        if name == self.closed:
            self.entered.set()
            self._open.wait()
        call = threading.current_thread().name, name
        if self.unanswered.get(call, 0) > 0:
            self.unanswered[call] -= 1
            raise Unavailable(f"nobody answers {name}")

    def open(self) -> None:
        self._open.set()


class Gated:
    """A client of the port, or the port, whose calls pass the gate first."""

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner, self._gate = inner, gate

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name in ("admin", "consumer", "producer", "transactional_producer"):
            return lambda *given, **named: Gated(inner(*given, **named), self._gate)
        if name not in ("poll_batch", "init", "send_offsets", "commit", "topic_ids"):
            return inner

        def call(*given: Any, **named: Any) -> Any:
            self._gate.through(name)
            return inner(*given, **named)

        return call


class Row(Value, namespace="test"):
    note: str


def app(web: Web) -> FastAPI:
    """What the web service serves: everything that a web factory can ask for, and a path that blocks the loop."""
    house = houses[web.service.name]
    web.outcomes(house.done)
    publisher, keys, made = web.publisher, web.idempotency, FastAPI()

    @made.get("/publishes")
    async def publishes() -> str:
        return await publisher.publish(house.Asked(id="a"))

    @made.get("/reserves")
    async def reserves() -> None:
        await keys.reserve("a", "hash", edge_id)

    @made.get("/blocks")
    async def blocks() -> None:
        house.gate.through("loop")

    return made


class House:
    """A service with handlers of `kind`, or a web application, and its workers."""

    def __init__(
        self,
        kind: str,
        bootstrap: str,
        registry: str,
        folder: Path,
        *,
        behind: str | None = None,
        on_failure: OnFailure = dead_letter,
        retry: Retry | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = f"s{uuid.uuid4().hex[:8]}"
        houses[self.name] = self
        self.kind, self.behind = kind, behind or registry
        self.gate = Gate()
        self.seconds = 0.0
        self._declare(kind, {"on_failure": on_failure, "retry": retry})
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            registry_url=registry,
            data_dir=folder,
            http="127.0.0.1:0",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
            relay=kind != "sql without relay",
            kafka=options or {},
        )
        self.kafka = connect(self.settings, self.name)
        self.contracts = Contracts(Registry(registry, timeout=3.0))
        self.contracts.register([self.Asked, self.Done])
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.service))
        admin.close()
        self.health = Health()
        self.stop = threading.Event()
        gated: Any = Gated(self.kafka, self.gate)
        self.assembly = assemble(
            self.service, self.settings, self.contracts, gated, health=self.health, tracer=Tracer()
        )
        watchdog = Watchdog(
            self.health, silent=SILENT, hung=HUNG, native_silent=SILENT, native_hung=HUNG, clock=lambda: self.seconds
        )
        self.crew = Crew(self.assembly.workers, self.assembly.late, self.stop, watchdog)

    def _declare(self, kind: str, policy: dict[str, Any]) -> None:
        gate, house = self.gate, self

        class Asked(Command if kind == "aggregate" else Event, key="id", namespace=f"test.{self.name}"):
            id: str

        class Done(Event, key="id", namespace=f"test.{self.name}"):
            id: str

        self.Asked, self.Done = Asked, Done
        self.asked, self.done = Topic(f"{self.name}.asked", Asked), Topic(f"{self.name}.done", Done, retention=FOREVER)
        tables = MetaData()
        self.trouble: Callable[[str], None] = lambda id: None
        web = f"{__name__}:app" if kind == "web" else None
        self.service = service = Service(self.name, tables=tables, web=web, publishes=[Asked] if web else [])
        if kind == "kafka":

            @service.on(Asked, **policy)
            def answer(asked: Asked) -> Done:
                self.trouble(asked.id)
                return Done(id=asked.id)

        elif kind == "timer":

            class Wake(Timer, key="id", namespace=f"test.{self.name}"):
                id: str

            @service.on(Asked)
            def sleep(asked: Asked, timers: Timers) -> None:
                timers.set(Wake(id=asked.id), after=seconds(0))

            @service.on(Wake, **policy)
            def wake(due: Wake) -> Done:
                self.trouble(due.id)
                return Done(id=due.id)

        elif kind == "aggregate":

            class Answers(Aggregate, namespace=f"test.{self.name}"):
                @decides
                def answer(self, asked: Asked) -> Done:
                    house.trouble(asked.id)
                    return Done(id=asked.id)

                @evolves
                def done(self, event: Done) -> Self:
                    return self

            Answers.mount(service, **policy)

        elif kind.startswith("sql"):

            @service.on(Asked, **policy)
            def write(asked: Asked, db: Connection) -> Done:
                self.trouble(asked.id)
                return Done(id=asked.id)

        elif kind == "effect":

            @service.effect(Asked)
            async def call(asked: Asked, call: Call) -> Done:
                gate.through("loop")
                return Done(id=asked.id)

        elif kind in ("view", "sink"):
            table = Table(
                "rows",
                tables,
                Column("id", String, primary_key=True),
                Column("note", String),
                Column("version", BigInteger, nullable=False),
            )
            view = View("rows", Row, topic=f"{self.name}.rows", sinks=[SqlSink(table, self._columns)])

            @view.on(Asked)
            def row(asked: Asked, row: Row | None) -> Row:
                if kind == "view":
                    self.trouble(asked.id)
                return Row(note=asked.id)

            view.mount(service)

    def _columns(self, row: Row) -> dict[str, Any]:
        if "sink" in self.kind:
            self.trouble(row.note)
        return {"note": row.note}

    @contextmanager
    def running(self) -> Iterator[None]:
        """All workers at work until the block is left; whatever hangs then goes on."""
        self.crew.start()
        try:
            wait_until(lambda: self.health.healthy, seconds=60, what="all workers are well")
            yield
        finally:
            self.gate.open()
            self.stop.set()
            assert self.crew.finish() or self.crew.exit is not Exit.STOPPED, self.crew.running

    def ask(self, *ids: str, key: bool = True) -> None:
        producer = self.kafka.producer()
        for of in ids:
            id = edge_id()
            headers = header_writer(self.Asked, "test")(id, id, None, None)
            value = self.contracts.encode(self.Asked(id=of))
            producer.produce(self.asked.name, value, of.encode() if key else None, headers)
        producer.flush()
        producer.close()

    @property
    def read_topic(self) -> str:
        """What the worker reads that is looked at: a sink reads the rows of its view."""
        return f"{self.name}.rows" if self.kind == "sink" else self.asked.name

    def foreign(self, id: str) -> None:
        """Write a record by a schema of its own, which only the registry behind it knows."""
        field, name = ("note", "test.Row") if self.kind == "sink" else ("id", f"test.{self.name}.Asked")
        other = {"name": f"x{uuid.uuid4().hex[:8]}", "type": "int", "default": 0}
        schema = {"type": "record", "name": name, "fields": [{"name": field, "type": "string"}, other]}
        registered = Registry(self.behind).register(f"s{uuid.uuid4().hex}", json.dumps(schema))
        text = id.encode()
        producer = self.kafka.producer()
        value = b"\0" + registered.to_bytes(4, "big") + bytes([2 * len(text)]) + text + b"\0"
        producer.produce(self.read_topic, value, text)
        producer.flush()
        producer.close()

    def settled(self) -> bool:
        """Whether the group has read all of what it reads."""
        group = f"{self.name}.rows.rows" if self.kind == "sink" else self.service.group(self.service.kinds()[0])
        admin = self.kafka.admin()
        try:
            return all(found.lag == 0 for found in admin.group_lag(group, [self.read_topic]))
        finally:
            admin.close()

    def lag(self, labels: dict[str, str]) -> float:
        """The lag that the metric shows of a topic, all partitions together."""
        (family,) = metrics.CONSUMER_LAG.collect()
        return sum(sample.value for sample in family.samples if labels.items() <= sample.labels.items())

    def turned_within(self, seconds: float, worker: str) -> bool:
        """Whether a worker shows life from now on."""
        self.seconds += STEP
        self.crew.look()
        wait_until(lambda: self.turned([worker]), seconds=seconds, what=f"{worker} shows life")
        return True

    def records(self, topic: str) -> list[Message]:
        return [message for batch in self.kafka.read_to_end(topic, timeout=20) for message in batch]

    @contextmanager
    def gated_database(self) -> Iterator[None]:
        """Every statement passes the gate, as `database`."""

        def before(*_: Any) -> None:
            self.gate.through("database")

        sqlalchemy_event.listen(Engine, "before_cursor_execute", before)
        try:
            yield
        finally:
            sqlalchemy_event.remove(Engine, "before_cursor_execute", before)

    def request(self, path: str) -> None:
        """Ask the web application, and do not wait."""

        def get() -> None:
            with suppress(httpx.HTTPError):  # it is to hang
                httpx.get(f"{self.assembly.url}{path}", timeout=60)

        threading.Thread(target=get, daemon=True).start()

    def thread(self, name: str) -> threading.Thread:
        return next(thread for thread in threading.enumerate() if thread.name == name)

    def look(self, steps: int, silent: str) -> None:
        """Let so much time pass for the watchdog, in which everybody shows life but `silent`."""
        others = [name for name in self.crew.names if name != silent]
        for _ in range(steps):
            self.seconds += STEP
            self.crew.look()
            if self.stop.is_set():
                return
            wait_until(lambda: self.turned(others), seconds=60, what=f"{others} turn")

    def turned(self, names: Sequence[str]) -> bool:
        self.crew.look()
        return all(silent_seconds(name) == 0 for name in names)


def silent_seconds(worker: str) -> float:
    return REGISTRY.get_sample_value("millstream_silent_seconds", {"worker": worker}) or 0.0


def kill(thread: threading.Thread) -> None:
    """End a thread as an error does that nobody has foreseen: at its next step in Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
