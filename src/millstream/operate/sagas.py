"""The sagas of a system, as their changelogs have them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from millstream.contracts import Contracts
from millstream.declare import Service
from millstream.errors import ConfigurationError
from millstream.kafka import Kafka
from millstream.patterns.saga import SagaState

STATES = ("running", "cancelling", "parked", "completed", "cancelled")


class Declared(NamedTuple):
    """One saga of a service, and the changelog of its states."""

    service: str
    saga: str
    topic: str


class Found(NamedTuple):
    """One saga as it stands."""

    service: str
    saga: str
    id: str
    state: SagaState

    def told(self) -> dict[str, Any]:
        """What a program wants to know of it; what its events said stays out, for it may be personal."""
        state = self.state
        return {
            "service": self.service,
            "saga": self.saga,
            "id": self.id,
            "state": state.shown,
            "step": None if state.current is None else state.steps[state.current].name,
            "tries": state.tries,
            "reason": state.reason,
            "started_at": state.started_at.isoformat(),
            "changed_at": state.changed_at.isoformat(),
            "steps": msgspec.to_builtins(state.steps),
            "history": msgspec.to_builtins(state.history),
        }


def declared_sagas(services: Iterable[Service], named: str | None = None) -> list[Declared]:
    """The sagas of these services, or the one of this name. Raises `ConfigurationError` where there is none."""
    every = [
        Declared(service.name, store.name.removesuffix("-saga"), store.changelog(service.name))
        for service in services
        for store in service.stores()
        if store.value is SagaState
    ]
    chosen = [each for each in every if named in (None, each.saga)]
    if not chosen:
        names = ", ".join(each.saga for each in every)
        raise ConfigurationError(
            f"There is no saga {named!r}: the system has {names}"
            if every
            else "The system has no saga: declare one, and mount it on a service"
        )
    return chosen


def read_sagas(
    kafka: Kafka, contracts: Contracts, sagas: Sequence[Declared], there: Mapping[str, Any]
) -> Iterator[Found]:
    """All sagas as they stand now. One whose service never ran has none.

    Raises `Unavailable`, `RegistryUnavailable`, or `DecodeError` for a record that is none.
    """
    for declared in sagas:
        if declared.topic not in there:
            continue
        latest: dict[bytes, bytes] = {}
        for batch in kafka.read_to_end(declared.topic):
            for message in batch:
                if (value := message.value()) is None:
                    latest.pop(message.key() or b"", None)
                else:
                    latest[message.key() or b""] = value
        for key, value in latest.items():
            state = msgspec.convert(contracts.decode_any(declared.topic, value), SagaState)
            yield Found(declared.service, declared.saga, key.decode(), state)
