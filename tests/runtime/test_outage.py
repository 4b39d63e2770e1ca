"""A worker's wait for what does not answer is bounded. In virtual time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from millstream.contracts import Contracts, Registry
from millstream.contracts.framing import framing
from millstream.declare import Call, Event, Kind, Service, Topic
from millstream.errors import RegistryUnavailable
from millstream.runtime.effect.in_flight import Partition
from millstream.runtime.effect.reading import InFlightReader
from millstream.runtime.effect.watermark import Watermark
from millstream.runtime.outage import Outage
from millstream.runtime.records.inbound import InboundReader
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.parked import ParkedEvent
from millstream.runtime.worker import Stopping
from millstream.settings import Settings
from millstream.testing.simulation import CALM, World


class Polled:
    """A consumer whose brokers answer."""

    def committed(self, *_: Any, **__: Any) -> None: ...


def waited(interval: int | None, *, polls: bool = True, busy: float = 0.0) -> float:
    """Seconds that a worker waits for a silent registry, after its handlers were `busy` since its last poll."""
    settings = Settings(kafka={} if interval is None else {"max.poll.interval.ms": str(interval)})
    found: list[float] = []

    def silent() -> None:
        raise RegistryUnavailable("no answer")

    def wait() -> None:
        outage, consumer = Outage("w", settings, None), Polled()
        if polls:
            outage.probe(consumer, "t")  # type: ignore[arg-type]
        time.sleep(busy)
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable):
            outage.wait_out(silent)
        found.append(time.monotonic() - began)

    with World(1, CALM) as world:
        world.process("w", wait, restart=False)
        world.until(lambda: found, 600, every=0.5)
    return found[0]


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (lambda: waited(None), 120),
        (lambda: waited(60_000), 30),
        (lambda: waited(60_000, busy=10), 20),
        # Whatever its handlers have taken, one blip does not end it.
        (lambda: waited(60_000, busy=50), 6),
        (lambda: waited(None, busy=100), 50),
        # Before its first poll no group counts.
        (lambda: waited(60_000, polls=False), 120),
        (lambda: waited(3_600_000), 120),
    ],
)
def test_a_wait_ends_before_the_group_puts_the_worker_out(wait: Callable[[], float], seconds: float):
    assert wait() == pytest.approx(seconds, abs=0.5)


def test_parked_events_are_restored_within_one_wait():
    """The restore of them all is what is waited for: each by itself would wait as long again."""

    class Charged(Event, key="card", namespace="test"):
        card: str

    charges, till = Topic("charges", Charged), Service("till")

    @till.effect(Charged)
    async def note(charged: Charged, call: Call) -> None: ...

    outage = Outage("w", Settings(), None)
    outage.stop.set()
    inbound = InboundReader(till, Kind.EFFECT, Contracts(Registry("http://127.0.0.1:1", timeout=0.01)))
    partitions = {(charges.name, 0): Partition((charges.name, 0), Watermark(0, ""))}
    metrics = WorkerMetrics(till.name, till.group(Kind.EFFECT), timed=False)
    reader = InFlightReader(inbound, till.redrive_topic(Kind.EFFECT), partitions, metrics, outage)
    event = ParkedEvent(at=(charges.name, 0, 7), stamp=(1, 0), raw_key=b"a", raw_value=framing(77) + b"\x02a")
    with pytest.raises(RegistryUnavailable):
        reader.parked(event)
    with pytest.raises(Stopping):
        reader.read(event)
