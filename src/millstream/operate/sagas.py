"""The sagas of a system, as their changelogs have them; and a parked one, asked to try anew."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from millstream.contracts import Contracts, edge_id
from millstream.declare import Kind, Service, full_name
from millstream.errors import ConfigurationError, MillstreamError, did_you_mean
from millstream.kafka import Kafka
from millstream.operate.verify.spill import Spill
from millstream.patterns.saga import SagaState
from millstream.patterns.saga.runner import timer_of
from millstream.runtime.records.redrive import Action, redrive_headers
from millstream.runtime.task.timers import FiredTimer, SetTimer

STATES = ("running", "cancelling", "parked", "completed", "cancelled")


class Declared(NamedTuple):
    """One saga of a service, and the changelog of its states."""

    service: Service
    saga: str
    topic: str


class Found(NamedTuple):
    """One saga as it stands, in a partition of its service's."""

    service: Service
    saga: str
    id: str
    partition: int
    state: SagaState

    def told(self) -> dict[str, Any]:
        """Return its state as what JSON can hold; what its events said stays out, for it may be personal."""
        state = self.state
        return {
            "service": self.service.name,
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
        Declared(service, store.name.removesuffix("-saga"), store.changelog(service.name))
        for service in services
        for store in service.stores()
        if store.value is SagaState
    ]
    chosen = [each for each in every if named in (None, each.saga)]
    if not chosen:
        if not every:
            raise ConfigurationError("The system has no saga: declare one, and mount it on a service")
        names = [each.saga for each in every]
        meant = did_you_mean(named or "", names)
        raise ConfigurationError(f"There is no saga {named!r}{meant}: the system has {', '.join(names)}")
    return chosen


def read_sagas(
    kafka: Kafka,
    contracts: Contracts,
    sagas: Sequence[Declared],
    there: Mapping[str, Any],
    *,
    id: str | None = None,
    wanted: Callable[[SagaState], bool] | None = None,
) -> Iterator[Found]:
    """The sagas as they stand now, without what their events said. One whose service never ran has none.

    - `id`: only those with this id.
    - `wanted`: only those in such a state. They come in the order of their last change, the longest unchanged first,
      and lie on disk till then: memory does not grow with their number.

    Raises `Unavailable`, `RegistryUnavailable`, or `DecodeError` for a record that is none.
    """
    spill = Spill()
    spill.db.execute("CREATE TABLE sagas (of INT, id TEXT, part INT, changed REAL, state, PRIMARY KEY (of, id))")
    for number, declared in enumerate(sagas):
        if declared.topic not in there:
            continue
        for batch in kafka.read_to_end(declared.topic):
            latest = {(message.key() or b"").decode(): message for message in batch}
            keys = latest.keys() if id is None else latest.keys() & {id}
            chosen: list[tuple[Any, ...]] = []
            for key in keys:
                if (value := latest[key].value()) is None:
                    continue
                state = msgspec.convert(contracts.decode_any(declared.topic, value) | {"known": {}}, SagaState)
                if wanted is None or wanted(state):
                    at = latest[key].partition(), state.changed_at.timestamp()
                    chosen.append((number, key, *at, msgspec.msgpack.encode(state)))
            spill.write("DELETE FROM sagas WHERE of = ? AND id = ?", [(number, key) for key in keys])
            spill.write("INSERT INTO sagas VALUES (?, ?, ?, ?, ?)", chosen)
    decode = msgspec.msgpack.Decoder(SagaState).decode
    for number, key, partition, _, state in spill.db.execute("SELECT * FROM sagas ORDER BY changed, of, id"):
        yield Found(sagas[number].service, sagas[number].saga, key, partition, decode(state))


def try_anew(kafka: Kafka, found: Found) -> None:
    """Lets a parked saga send its command again, as often as at first.

    It is told as if its wait were over; should it have gone on by itself meanwhile, nothing happens. Raises
    `MillstreamError` for one that is not parked.
    """
    service, state = found.service, found.state
    if not state.parked:
        raise MillstreamError(
            f"Saga {found.saga} {found.id} is {state.shown}: only a parked one is tried again. It goes on by itself."
        )
    timer, id = timer_of(found.saga)(saga_id=found.id, turn=state.turn), edge_id()
    told = SetTimer(
        number=0,
        due=time.time(),
        type=full_name(type(timer)),
        key=found.id,
        payload=msgspec.msgpack.encode(timer),
        id=id,
        correlation_id=state.correlation_id,
        causation_id=id,
    )
    fired = FiredTimer(service.timers_topic(Kind.KAFKA), found.partition, told)
    at, (_, milliseconds) = (fired.topic(), fired.partition(), fired.offset()), fired.timestamp()
    headers = redrive_headers(fired.headers(), at=at, milliseconds=milliseconds, action=Action.HANDLE, count=1)
    producer = kafka.producer()
    try:
        producer.produce(service.redrive_topic(Kind.KAFKA), fired.value(), fired.key(), headers, found.partition)
        producer.flush()
    finally:
        producer.close()
