"""Calling a saga's handler with nothing running: events in, what it says out, with time in the test's hands."""

from datetime import timedelta
from typing import Any

from millstream.declare import Contract, Envelope, Handler, Service, key_of
from millstream.patterns.saga import SagaState
from millstream.runtime.task.timers import MemoryTimers
from millstream.state.memory import MemoryStore


class SagaStory:
    """One partition of the saga's service, in memory."""

    def __init__(self, service: Service, name: str) -> None:
        self.handler = next(found for found in service.handlers if found.name == f"{name}_saga")
        self.store: MemoryStore[SagaState] = MemoryStore(self.handler.stores[0])
        self.timers = MemoryTimers()
        self.said: list[Contract] = []

    def hear(self, *events: Contract) -> list[Contract]:
        """What it says when it hears these."""
        said: list[Contract] = []
        for event in events:
            said += called(self.handler, event, self.store, self.timers)
        self.said += said
        return said

    def pass_time(self, time: timedelta) -> list[Contract]:
        """What it says when so much more time has passed."""
        return self.hear(*self.timers.pass_time(time))

    def state(self, id: str) -> SagaState:
        found = self.store.get(id)
        assert found is not None
        return found

    def history(self, id: str) -> list[str]:
        return [" ".join(filter(None, (line.step, line.what))) for line in self.state(id).history]


def called(handler: Handler, event: Contract, store: Any, timers: MemoryTimers) -> list[Contract]:
    envelope = Envelope(
        id="e-1",
        type=type(event).__name__,
        source="test",
        time=timers.now,
        key=key_of(event),
        topic="test",
        partition=0,
        offset=0,
        correlation_id="e-1",
    )
    return list(handler.function(event, store, timers, envelope))
