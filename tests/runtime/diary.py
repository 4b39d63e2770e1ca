"""A service that notes what it hears, key by key in order; what it hears may be trouble."""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Annotated, Any

from tests.runtime.running import Running

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import (
    Event,
    Kind,
    OnFailure,
    Retry,
    Service,
    State,
    Store,
    Timer,
    Timers,
    Topic,
    Value,
    dead_letter,
    exponential,
    minutes,
    seconds,
)
from millstream.kafka import Message, connect
from millstream.operate.assembly import topics_of
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.records.redrive import Action, redrive_headers
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

ROOT = Path(__file__).parents[2]


class Diary:
    """The declarations, with names of their own for each test. Whatever is noted carries its count in its key."""

    def __init__(
        self,
        name: str,
        *,
        retry: Retry | None = None,
        on_failure: OnFailure = dead_letter,
        inbox: Any = None,
        foreign_keys: Any = None,
        **options: Any,
    ) -> None:
        class Said(Event, key="who", namespace="test"):
            who: str
            number: int
            wake_in: float | None = None
            wake: str | None = None

        class Noted(Event, key="who", namespace="test"):
            who: str
            number: int
            count: int
            woken: bool = False

        class Page(Value, namespace="test"):
            count: int

        class Wake(Timer, key="who", namespace="test"):
            who: str
            number: int

        self.Said, self.Noted, self.Wake = Said, Noted, Wake
        self.sayings = Topic(f"{name}.sayings", Said, partitions=2, foreign_keys=foreign_keys)
        self.notes = Topic(f"{name}.notes", Noted, partitions=2)
        self.pages = pages = Store("pages", Page)
        self.service = service = Service(f"{name}-diary", **options)
        self.trouble: Callable[[Any], None] = lambda said: None
        retry = retry or Retry(attempts=None, backoff=exponential(0.05, limit=0.1), within=minutes(60))

        @service.on(Said, retry=retry, on_failure=on_failure, inbox=inbox)
        def note(said: Said, pages: Annotated[State[Page], pages], timers: Timers) -> Noted:
            page = Page(count=(pages.get(said.who) or Page(count=0)).count + 1)
            pages.put(said.who, page)
            if said.wake_in is not None:
                timers.set(Wake(who=said.wake or said.who, number=said.number), after=seconds(said.wake_in))
            else:
                timers.cancel(Wake, said.who)
            self.trouble(said)
            return Noted(who=said.who, number=said.number, count=page.count)

        @service.on(Wake, retry=retry, on_failure=on_failure)
        def wake(timer: Wake, pages: Annotated[State[Page], pages]) -> Noted:
            page = pages.get(timer.who)
            self.trouble(timer)
            return Noted(who=timer.who, number=timer.number, count=page.count if page else 0, woken=True)


class DiaryRig:
    """One diary on one cluster."""

    def __init__(self, bootstrap: str, registry: str, name: str | None = None, **options: Any) -> None:
        self.name = name or f"d{uuid.uuid4().hex[:8]}"
        self.diary = Diary(self.name, **options)
        self.service = self.diary.service
        self.bootstrap, self.registry = bootstrap, registry
        self.kafka = connect(self.settings(0), self.name)
        self._producer = self.kafka.producer()
        self.contracts = Contracts(Registry(registry))
        self.contracts.register([self.diary.Said, self.diary.Noted])

    def settings(self, slot: int) -> Settings:
        return Settings(
            bootstrap_servers=self.bootstrap,
            registry_url=self.registry,
            slot=slot,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.service))
        admin.close()

    def close(self) -> None:
        self._producer.close()

    @contextmanager
    def running(self, slot: int = 0) -> Iterator[Running[KafkaWorker]]:
        running = Running(KafkaWorker(self.service, self.settings(slot), self.contracts, self.kafka))
        try:
            yield running
        finally:
            running.stop()

    def child(self, output: Path, slot: int = 0) -> Popen[bytes]:
        """The same worker in a process of its own."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.runtime.diary import main; main()"
        arguments = json.dumps([self.bootstrap, self.registry, self.name, slot])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def say(
        self,
        *sayings: tuple[str, int],
        key: bool = True,
        id: str | None = None,
        source: bytes | None = None,
        wake_in: float | None = None,
        wake: str | None = None,
    ) -> None:
        for who, number in sayings:
            said = self.diary.Said(who=who, number=number, wake_in=wake_in, wake=wake)
            own = id or edge_id()
            headers = header_writer(type(said), "test")(own, own, None, None)
            if source is not None:
                headers = [("ce_id", own.encode()), ("ce_source", source)]  # as others write them
            name = who.encode() if key else None
            self._producer.produce(self.diary.sayings.name, self.contracts.encode(said), name, headers)
        self._producer.flush()

    def redrive(self, letter: Message, action: Action = Action.HANDLE, value: bytes | None = None) -> None:
        topic, key, made, headers, partition = redriven(letter, self.service.redrive_topic(Kind.KAFKA), action)
        self._producer.produce(topic, value or made, key, headers, partition)
        self._producer.flush()

    def records(self, topic: str) -> list[Message]:
        return [message for batch in self.kafka.read_to_end(topic, timeout=20) for message in batch]

    def notes(self, woken: bool = False) -> dict[str, list[int]]:
        """The numbers noted of each key, in order. Their counts must agree: none lost, twice, or on the wrong state."""
        decode = self.contracts.decoder([self.diary.notes]).decode
        found: dict[str, list[int]] = {}
        counts: dict[str, list[int]] = {}
        for message in self.records(self.diary.notes.name):
            noted = decode(message.value())
            if noted.woken == woken:
                found.setdefault(noted.who, []).append(noted.number)
                counts.setdefault(noted.who, []).append(noted.count)
        assert woken or all(count == list(range(1, len(count) + 1)) for count in counts.values()), counts
        return found

    def dead_letters(self) -> list[Message]:
        return self.records(self.diary.sayings.dead_letters)

    def wait_for_notes(self, wanted: dict[str, list[int]], *, woken: bool = False, seconds: float = 120) -> None:
        try:
            wait_until(lambda: self.notes(woken) == wanted, seconds=seconds, what=f"{wanted}", every=0.1)
        except TimeoutError as error:
            raise AssertionError(f"{error}; noted {self.notes(woken)}") from None

    def wait_for_letters(self, count: int, seconds: float = 120) -> list[Message]:
        wait_until(lambda: len(self.dead_letters()) >= count, seconds=seconds, what=f"{count} dead letters", every=0.1)
        return self.dead_letters()


def redriven(letter: Message, topic: str, action: Action) -> tuple[str, bytes | None, bytes | None, Any, int]:
    """The record that `millstream dlq redrive` makes of a dead letter: topic, key, value, headers, partition."""
    said = {name.removeprefix("millstream-dlq-"): value.decode() for name, value in letter.headers() or ()}
    at = said["topic"], int(said["partition"]), int(said["offset"])
    original = [header for header in letter.headers() or () if not header[0].startswith("millstream-dlq-")]
    headers = redrive_headers(original, at=at, milliseconds=int(said["timestamp"]), action=action, count=1)
    return topic, letter.key(), letter.value(), headers, at[1]


def main() -> None:
    bootstrap, registry, name, slot = json.loads(sys.argv[1])
    rig = DiaryRig(bootstrap, registry, name)
    KafkaWorker(rig.service, rig.settings(slot), rig.contracts, rig.kafka).run(threading.Event())
