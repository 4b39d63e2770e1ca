"""With real workers of each kind: a poisoned event is dead-lettered, the cause is removed, and a redrive brings its
outcome once, as if it had never failed; no other consumer of its topic sees anything.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.runtime.effect_rig import EffectRig
from tests.runtime.rig import Rig
from tests.runtime.running import Running
from tests.runtime.sql_rig import SqlRig
from tests.runtime.sql_rig import running as running_sql

from millstream.contracts import derived_id, identity
from millstream.declare import Service, System, dead_letter, park_key
from millstream.errors import Rejected
from millstream.kafka import Kafka, Message
from millstream.operate.assembly import topics_of
from millstream.operate.dlq.audit import Audit
from millstream.operate.dlq.bulk import Limits, discards, execute, redrives
from millstream.operate.dlq.context import DlqContext, Origins
from millstream.operate.dlq.dead_letter import WAITING
from millstream.operate.dlq.executor import Actor, Done
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.reading import read_dead_letters
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow


@dataclass
class Case:
    """One kind of worker. `send(key)` an event; while `broken`, its handler refuses it."""

    service: Service
    kafka: Kafka
    source: str
    outcomes: str
    handler: str
    send: Callable[[str], None]
    running: Callable[[], AbstractContextManager[Any]]
    broken: bool = True

    def records(self, topic: str) -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, timeout=20) for m in batch]

    def wait_for(self, topic: str, count: int) -> list[Message]:
        found: list[Message] = []

        def there() -> bool:
            found[:] = self.records(topic)
            return len(found) >= count

        wait_until(there, seconds=60, what=f"{count} records on {topic}", every=0.1)
        return found

    def check(self, *_: Any) -> None:
        if self.broken:
            raise Rejected("broken", "until it is mended")

    @contextmanager
    def context(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[DlqContext]:
        module = ModuleType(place := f"{self.source.replace('.', '_')}_system")
        setattr(module, attribute := self.service.name.replace("-", "_"), self.service)
        monkeypatch.setitem(sys.modules, place, module)
        origins = Origins(System("test", [f"{place}:{attribute}"]))
        admin = self.kafka.admin()
        try:
            audit = Audit(self.kafka, admin, frozenset(origins.dead_letters))
            there = {name: found.partitions for name, found in admin.topics().items()}
            yield DlqContext(self.kafka, admin, origins, audit, there)
        finally:
            admin.close()


def kafka_case(cluster: Cluster, folder: Path, **options: Any) -> Case:
    rig = Rig(cluster.bootstrap, cluster.registry, **options)
    parcels = rig.parcels
    case = Case(
        rig.service, rig.kafka, parcels.payments.name, parcels.shipments.name, "ship",
        send=lambda key: rig.pay((key, 1)), running=rig.running,
    )  # fmt: skip
    parcels.trouble = case.check
    return case


def sql_case(cluster: Cluster, folder: Path, **options: Any) -> Case:
    rig = SqlRig(cluster.bootstrap, folder, **options)
    case = Case(
        rig.service, rig.kafka, rig.stock.orders.name, rig.stock.reserved.name, "reserve",
        send=lambda key: rig.order((key, 1)), running=lambda: running_sql(rig.worker(), rig.relay()),
    )  # fmt: skip
    rig.stock.trouble = case.check
    return case


def effect_case(cluster: Cluster, folder: Path, **options: Any) -> Case:
    rig = EffectRig(cluster.bootstrap, folder, **options)

    @contextmanager
    def running() -> Iterator[None]:
        worker = Running(rig.worker())
        try:
            yield
        finally:
            worker.stop()

    case = Case(
        rig.service, rig.kafka, rig.payments.charges.name, rig.payments.charged.name, "charge",
        send=lambda key: rig.charge((key, 1)), running=running,
    )  # fmt: skip

    async def trouble(number: int, call: Any) -> None:
        case.check()

    rig.payments.trouble = trouble
    return case


CASES = {"kafka": kafka_case, "sql": sql_case, "effect": effect_case}


@pytest.fixture(params=[dead_letter, park_key], ids=["dead_letter", "park_key"])
def on_failure(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, on_failure: Any) -> Iterator[Case]:
    made = CASES[request.param](cluster, tmp_path, on_failure=on_failure)
    admin = made.kafka.admin()
    admin.ensure_topics(topics_of(made.service))
    admin.close()
    with ExitStack() as stack:
        stack.enter_context(made.running())
        yield made


def test_a_redrive_brings_the_outcome_once_and_reaches_no_other_group(
    case: Case, on_failure: Any, monkeypatch: pytest.MonkeyPatch
):
    case.send("k-1")
    [dead_letter] = case.wait_for(f"{case.source}.dlq", 1)
    [event] = case.records(case.source)
    case.broken = False
    with case.context(monkeypatch) as context:
        found = [one for one, _ in read_dead_letters(context, [dead_letter.topic()], Filter(states=WAITING))]
        assert [one.parked for one in found] == [on_failure is park_key]
        [done] = execute(context, redrives(context, found, Limits()), Actor("ann", "test"))
        assert isinstance(done, Done)
        # Behind it, so that what it did has been done when this has an outcome.
        case.send("k-1")
        outcomes = case.wait_for(case.outcomes, 2)
    assert len(outcomes) == 2
    assert len(case.records(case.source)) == 2, "the redrive went to the failing group alone"
    _, _, _, id = identity(event.headers(), event)
    ids = [dict(outcome.headers() or [])["ce_id"].decode() for outcome in outcomes]
    assert derived_id(id, f"{case.service.name}.{case.handler}", 0) in ids
    assert len(set(ids)) == 2
    assert len(case.records(f"{case.source}.dlq")) == 1


@pytest.mark.parametrize("on_failure", [park_key], indirect=True, ids=["park_key"])
def test_discarding_a_parked_event_lets_its_key_go_on_without_it(case: Case, monkeypatch: pytest.MonkeyPatch):
    case.send("k-1")
    [dead_letter] = case.wait_for(f"{case.source}.dlq", 1)
    case.send("k-1")
    case.broken = False
    with case.context(monkeypatch) as context:
        found = [one for one, _ in read_dead_letters(context, [dead_letter.topic()], Filter(states=WAITING))]
        assert len(list(execute(context, discards(context, found, 10), Actor("ann", "test")))) == 1
    [outcome] = case.wait_for(case.outcomes, 1)
    behind = case.records(case.source)[1]
    _, _, _, id = identity(behind.headers(), behind)
    expected = derived_id(id, f"{case.service.name}.{case.handler}", 0)
    assert dict(outcome.headers() or [])["ce_id"].decode() == expected


def test_a_header_without_a_value_has_none_in_every_letter_and_redrive(case: Case, monkeypatch: pytest.MonkeyPatch):
    case.broken = False
    case.send("k-1")
    case.wait_for(case.outcomes, 1)
    [event] = case.records(case.source)
    headers = [("ce_id", b"null-1"), ("nothing", None), ("empty", b""), ("traceparent", None)]
    case.broken = True
    producer = case.kafka.producer()
    producer.produce(case.source, event.value(), event.key(), headers)
    producer.flush()
    producer.close()
    for failures in (1, 2):  # as it came, and as it was redriven
        case.wait_for(f"{case.source}.dlq", failures)
        case.broken = failures == 1
        with case.context(monkeypatch) as context:
            context.audit.refresh(settled=False)
            [dead_letter] = [
                one for one, _ in read_dead_letters(context, [f"{case.source}.dlq"], Filter(states=WAITING))
            ]
            assert (dead_letter.headers, dead_letter.redrives) == (headers, failures - 1)
            [done] = execute(context, redrives(context, [dead_letter], Limits()), Actor("ann", "test"))
            assert isinstance(done, Done)
            assert done.plan.redrive_to is not None
            redriven = case.wait_for(done.plan.redrive_to[0], failures)[-1].headers() or []
            assert redriven[: len(headers)] == headers
    ids = [dict(outcome.headers() or [])["ce_id"] for outcome in case.wait_for(case.outcomes, 2)]
    assert derived_id("null-1", f"{case.service.name}.{case.handler}", 0).encode() in ids
    assert len(case.records(f"{case.source}.dlq")) == 2
