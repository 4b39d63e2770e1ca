"""A worker's wait for what does not answer is bounded. In virtual time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from millstream.errors import RegistryUnavailable
from millstream.runtime.outage import Outage
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
