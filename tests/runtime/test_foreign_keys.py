"""Records whose key is not their event's: refused, counted or accepted; and stores that refuse foreign keys."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import MetaData
from sqlalchemy.orm import Session
from tests.runtime.running import Running

from millstream.contracts import Contracts, Registry
from millstream.declare import Event, Service, State, Store, Timer, Timers, Topic, Value, hours, seconds
from millstream.errors import DeclarationError
from millstream.kafka import Message, connect, partition_of
from millstream.operate.assembly import assemble_handlers, topics_of
from millstream.runtime.records.foreign_keys import checked_stores
from millstream.runtime.sql.database import open_database
from millstream.settings import Settings
from millstream.state import memory
from millstream.telemetry import Health, Tracer
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

PARTITIONS = 4


class Gateway: ...


class Till:
    """A service that notes each payment, with a handler of one kind, on a topic of one policy.

    A payment with `also` is put into the store under that key, too; one with `drop` has that key deleted.
    """

    def __init__(self, kafka: LocalKafka, folder: Path, kind: str, policy: Any = None) -> None:
        name = f"k{uuid.uuid4().hex[:8]}"

        class Paid(Event, key="order_id", namespace="test"):
            order_id: str
            also: str = ""
            drop: str = ""

        class Noted(Event, key="order_id", namespace="test"):
            order_id: str
            count: int = 0

        class Count(Value, namespace="test"):
            count: int

        class Remind(Timer, key="order_id"):
            order_id: str

        self.Paid = Paid
        self.topic = Topic(f"{name}.paid", Paid, partitions=PARTITIONS, format="json", foreign_keys=policy)
        self.notes = Topic(f"{name}.noted", Noted, partitions=PARTITIONS, format="json")
        self.counts = Store("counts", Count)
        self.service = service = Service(f"{name}-till", tables=MetaData())
        self.handler = kind
        if kind == "store":

            @service.on(Paid)
            def store(paid: Paid, counts: Annotated[State[Count], self.counts]) -> Noted:
                before = counts.get(paid.order_id)
                count = Count(count=before.count + 1 if before else 1)
                counts.put(paid.order_id, count)
                if paid.also:
                    counts.put(paid.also, count)
                if paid.drop:
                    counts.delete(paid.drop)
                return Noted(order_id=paid.order_id, count=count.count)

        elif kind == "inbox":

            @service.on(Paid, inbox=hours(1))
            def inbox(paid: Paid) -> Noted:
                return Noted(order_id=paid.order_id)

        elif kind == "timers":

            @service.on(Paid)
            def timers(paid: Paid, timers: Timers) -> Noted:
                timers.set(Remind(order_id=paid.order_id), after=hours(1))
                if paid.drop:
                    timers.cancel(Remind, paid.drop)
                return Noted(order_id=paid.order_id)

            @service.on(Remind)
            def remind(due: Remind) -> None: ...

        elif kind == "sql_timers":

            @service.on(Paid)
            def sql_timers(paid: Paid, db: Session, timers: Timers) -> Noted:
                timers.set(Remind(order_id=paid.order_id), after=hours(1))
                if paid.drop:
                    timers.cancel(Remind, paid.drop)
                return Noted(order_id=paid.order_id)

            @service.on(Remind)
            def remind_too(due: Remind, db: Session) -> None: ...

        elif kind == "timer_store":

            @service.on(Paid)
            def timer_store(paid: Paid, timers: Timers) -> None:
                timers.set(Remind(order_id=paid.order_id), after=seconds(0))

            @service.on(Remind)
            def remember(due: Remind, counts: Annotated[State[Count], self.counts]) -> Noted:
                counts.put(due.order_id, Count(count=7))
                return Noted(order_id=due.order_id, count=7)

        elif kind == "stateless":

            @service.on(Paid)
            def stateless(paid: Paid) -> Noted:
                return Noted(order_id=paid.order_id)

        elif kind == "sql":

            @service.on(Paid)
            def sql(paid: Paid, db: Session) -> Noted:
                return Noted(order_id=paid.order_id)

        else:

            @service.provides
            async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
                yield Gateway()

            @service.effect(Paid)
            async def effect(paid: Paid) -> Noted:
                return Noted(order_id=paid.order_id)

        service.check()
        self.settings = Settings(
            bootstrap_servers=kafka.bootstrap,
            registry_url=kafka.registry,
            data_dir=folder,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )
        self.kafka = connect(self.settings, service.name)
        self.contracts = Contracts(Registry(kafka.registry))
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(service))
        admin.close()

    def send(self, *records: tuple[bytes | None, Any], partition: int = -1) -> None:
        producer = self.kafka.producer()
        for key, event in records:
            producer.produce(self.topic.name, self.contracts.encode(event), key, None, partition)
        producer.flush()
        producer.close()

    def records(self, topic: str) -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, timeout=20) for m in batch]

    def noted(self) -> set[tuple[str, int]]:
        events = map(self.contracts.decoder([self.notes]).decode, (m.value() for m in self.records(self.notes.name)))
        return {(event.order_id, event.count) for event in events}

    def letters(self) -> dict[bytes | None, dict[str, bytes | None]]:
        return {m.key(): dict(m.headers() or ()) for m in self.records(self.topic.dead_letters)}

    def counted(self) -> float:
        labels = {"service": self.service.name, "topic": self.topic.name}
        return REGISTRY.get_sample_value("millstream_foreign_keys_total", labels) or 0

    @contextmanager
    def running(self) -> Iterator[None]:
        @cache
        def engine():
            return open_database(self.service, self.settings)

        early, late = assemble_handlers(
            self.service, self.settings, self.contracts, self.kafka, engine, health=Health(), tracer=Tracer()
        )
        with ExitStack() as stack:
            if engine.cache_info().currsize:
                stack.callback(engine().dispose)
            running = [Running(worker) for worker in [*late, *early]]
            for each in running:
                stack.callback(each.stop)
            yield
        assert [each.error for each in running] == [None] * len(running)


CASES = [
    ("store", None, True),
    ("timers", None, True),
    ("inbox", None, True),
    ("stateless", None, False),
    ("sql", None, False),
    ("effect", None, False),
    *((kind, "refuse", True) for kind in ("store", "stateless", "sql", "effect")),
    *((kind, "warn", False) for kind in ("store", "stateless", "sql", "effect")),
    *((kind, "accept", False) for kind in ("store", "stateless", "sql", "effect")),
]


@pytest.mark.parametrize(("kind", "policy", "refused"), CASES)
def test_a_record_under_another_key_or_none(
    shared_kafka: LocalKafka, tmp_path: Path, kind: str, policy: Any, refused: bool
):
    till = Till(shared_kafka, tmp_path, kind, policy)
    keys = b"o-2", b"private@example.org", b"\xff\0"
    records = [*((key, till.Paid(order_id="o-1")) for key in keys), (None, till.Paid(order_id="o-3"))]
    till.send(*records, (b"o-4", till.Paid(order_id="o-4")))
    with till.running():
        many = 1 if refused else 5
        wait_until(lambda: len(till.records(till.notes.name)) >= many, seconds=60, what="the notes", every=0.05)
        if refused:
            wait_until(lambda: len(till.records(till.topic.dead_letters)) >= 4, seconds=60, what="letters", every=0.05)
    assert {order for order, _ in till.noted()} == ({"o-4"} if refused else {"o-1", "o-3", "o-4"})
    letters = till.letters()
    assert set(letters) == ({*keys, None} if refused else set())
    assert {headers["millstream-dlq-reason"] for headers in letters.values()} <= {b"foreign_key"}
    for key, headers in letters.items():
        told = (headers["millstream-dlq-message"] or b"").decode()
        assert "Paid.order_id" in told and till.topic.name in told and "foreign_keys=" in told
        assert "private" not in told and "o-1" not in told
        assert ("has no key" in told) == (key is None)
    assert till.counted() == (0 if refused or policy == "accept" else 4)


def sorted_out(of: str, many: int = 1) -> tuple[list[str], list[str]]:
    """Keys that lie in the partition of `of`, and keys that do not."""
    keys = [f"x-{number}" for number in range(100)]
    here = partition_of(of, PARTITIONS)
    alike = [key for key in keys if partition_of(key, PARTITIONS) == here]
    return alike[:many], [key for key in keys if key not in alike][:many]


@pytest.mark.parametrize("policy", [None, "warn", "accept"])
def test_a_store_refuses_keys_of_other_partitions(shared_kafka: LocalKafka, tmp_path: Path, policy: Any):
    till = Till(shared_kafka, tmp_path, "store", policy)
    (alike,), (other,) = sorted_out("o-1")
    paid = partial(till.Paid, order_id="o-1")
    wrong = [paid(also=other), paid(drop=other)]
    right = [paid(also=alike), paid(drop=alike), paid(drop="o-1")]
    till.send(*((b"o-1", event) for event in (*wrong, *right)))
    with till.running():
        many = 5 if policy == "accept" else 3
        wait_until(lambda: len(till.records(till.notes.name)) >= many, seconds=60, what="the notes", every=0.05)
    # What the refused ones had counted was undone.
    assert till.noted() == {("o-1", count + 1) for count in range(many)}
    letters = till.records(till.topic.dead_letters)
    assert len(letters) == (0 if policy == "accept" else 2)
    for letter in letters:
        headers = dict(letter.headers() or ())
        assert headers["millstream-dlq-reason"] == b"foreign_key"
        told = (headers["millstream-dlq-message"] or b"").decode()
        assert "'counts'" in told and other in told and f"partition {partition_of(other, PARTITIONS)}" in told


@pytest.mark.parametrize("policy", [None, "accept"])
@pytest.mark.parametrize("kind", ["timers", "sql_timers"])
def test_a_timer_of_another_partition_is_not_cancelled_in_silence(
    shared_kafka: LocalKafka, tmp_path: Path, kind: str, policy: Any
):
    till = Till(shared_kafka, tmp_path, kind, policy)
    (alike,), (other,) = sorted_out("o-1")
    events = [till.Paid(order_id="o-1", drop=drop) for drop in (other, alike, "o-1")]
    till.send(*((b"o-1", event) for event in events))
    with till.running():
        many = 3 if policy == "accept" else 2
        wait_until(lambda: len(till.records(till.notes.name)) >= many, seconds=60, what="the notes", every=0.05)
    letters = till.records(till.topic.dead_letters)
    assert len(letters) == (0 if policy == "accept" else 1)
    for letter in letters:
        headers = dict(letter.headers() or ())
        assert headers["millstream-dlq-reason"] == b"foreign_key"
        told = (headers["millstream-dlq-message"] or b"").decode()
        assert "timers" in told and other in told and f"partition {partition_of(other, PARTITIONS)}" in told


@pytest.mark.parametrize(("policy", "refused"), [(None, True), ("warn", False), ("accept", False)])
def test_a_timer_of_an_sql_handler_is_set_in_the_partition_of_its_key(
    shared_kafka: LocalKafka, tmp_path: Path, policy: Any, refused: bool
):
    till = Till(shared_kafka, tmp_path, "sql_timers", policy)
    elsewhere = (partition_of("o-1", PARTITIONS) + 1) % PARTITIONS
    # By its own key another partitioner may bring it anywhere; by another key it is not where its timers are.
    till.send((b"o-1", till.Paid(order_id="o-1")), partition=elsewhere)
    till.send((b"another", till.Paid(order_id="o-1")), (b"", till.Paid(order_id="o-1")), partition=elsewhere)
    with till.running():
        many = 1 if refused else 3
        wait_until(lambda: len(till.records(till.notes.name)) >= many, seconds=60, what="the notes", every=0.05)
        if refused:
            wait_until(lambda: len(till.records(till.topic.dead_letters)) >= 2, seconds=60, what="letters", every=0.05)
    assert {headers["millstream-dlq-reason"] for headers in till.letters().values()} == (
        {b"foreign_key"} if refused else set()
    )


def test_a_record_that_another_partitioner_put_elsewhere_keeps_its_state_there(
    shared_kafka: LocalKafka, tmp_path: Path
):
    till = Till(shared_kafka, tmp_path, "store")
    elsewhere = (partition_of("o-1", PARTITIONS) + 1) % PARTITIONS
    till.send(*[(b"o-1", till.Paid(order_id="o-1"))] * 2, partition=elsewhere)
    with till.running():
        wait_until(lambda: len(till.records(till.notes.name)) >= 2, seconds=60, what="the notes", every=0.05)
    assert till.noted() == {("o-1", 1), ("o-1", 2)}


def test_a_timer_writes_under_its_key(shared_kafka: LocalKafka, tmp_path: Path):
    # Wherever the record came: the key of the timer is that of its event.
    till = Till(shared_kafka, tmp_path, "timer_store")
    elsewhere = (partition_of("o-1", PARTITIONS) + 1) % PARTITIONS
    till.send((b"o-1", till.Paid(order_id="o-1")), partition=elsewhere)
    with till.running():
        wait_until(lambda: till.noted() == {("o-1", 7)}, seconds=60, what="the timer", every=0.05)
    assert not till.letters()


def test_a_policy_that_is_none_is_refused():
    class Paid(Event, key="order_id"):
        order_id: str

    with pytest.raises(DeclarationError, match=r"foreign_keys='ignore'; it is one of 'refuse', 'warn', 'accept'"):
        Topic("foreign.paid", Paid, foreign_keys="ignore")  # type: ignore[arg-type]


def test_a_store_without_a_partition_takes_every_key():
    class Count(Value):
        count: int

    counts = memory(Store("counts", Count))
    for key in ("a", "b", "c", "d"):
        counts.put(key, Count(count=1))
    counts.delete("e")
    assert len(counts) == 4


def test_stores_that_any_key_of_a_topic_may_go_to_are_not_checked():
    class Free(Event, key="id"):
        id: str

    class Bound(Event, key="id"):
        id: str

    class Count(Value):
        count: int

    Topic("foreign.free", Free, foreign_keys="accept")
    Topic("foreign.bound", Bound)
    shared, own = Store("shared", Count), Store("own", Count)
    service = Service("foreign-stores")

    @service.on(Free)
    def free(event: Free, shared: Annotated[State[Count], shared]) -> None: ...

    @service.on(Bound)
    def bound(event: Bound, shared: Annotated[State[Count], shared], own: Annotated[State[Count], own]) -> None: ...

    assert checked_stores(service) == {own}
