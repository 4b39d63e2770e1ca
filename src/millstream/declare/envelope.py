"""The facts that the runtime knows about an event beside its content."""

from datetime import datetime

import msgspec


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of the event being handled. A handler gets it by a parameter annotated `Envelope`.

    `correlation_id` is the id of the first event of the story, `causation_id` that of the event that led to this one.
    """

    id: str
    type: str
    source: str
    time: datetime
    key: str | None
    topic: str
    partition: int
    offset: int
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of an effect. `key` is the same for every attempt: pass it on as the idempotency key."""

    key: str
    attempt: int
    timeout: float
    """Seconds after which this attempt is cancelled."""
    envelope: Envelope
