"""Calls of handlers: their parameters, and their retries."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from millstream.contracts.tombstones import with_key
from millstream.declare import Call, Contract, Handler, Need, Parameter, State, Store, Timers, deleted_class
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.worker import ProcessEnds, Stopping
from millstream.state.ownership import PresentKey

T = TypeVar("T")

Invoker = Callable[[Any, EventMetadata, "HandlerContext"], Any]
"""Calls a handler with an event, its metadata, and the other things that the worker has for it."""


@dataclass(slots=True)
class HandlerContext:
    """The values that a worker has for handlers: each is used only where a signature names it."""

    states: Mapping[Store[Any], State[Any]] = field(default_factory=dict)
    session: Any = None
    connection: Any = None
    call: Call | None = None
    timers: Timers | None = None
    inbox: Any = None
    """The ids that handlers with an `inbox` have handled."""
    resources: Mapping[type, Any] = field(default_factory=dict)
    present: PresentKey = field(default_factory=PresentKey)
    """The key of the event, for stores that check what is written to them."""


class GaveUp(Exception):
    """A handler failed for the last time; `error` is what it raised then, `attempts` how often it was called."""

    def __init__(self, error: BaseException, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


def invoker(handler: Handler) -> Invoker:
    """Return what calls `handler`, worked out once: `invoker(handler)(event, meta, context)` returns its outputs.

    For an effect that is a coroutine.
    """
    function, others = handler.function, handler.parameters[1:]
    if not others:
        return lambda event, meta, context: function(event)
    fillers = [_filler(parameter) for parameter in others]
    if len(fillers) == 1:
        fill = fillers[0]
        return lambda event, meta, context: function(event, fill(meta, context))
    return lambda event, meta, context: function(event, *[fill(meta, context) for fill in fillers])


def digest_of(value: bytes | None) -> bytes:
    """Return the digest that an inbox stores of a record: it tells a duplicate from a different record."""
    return hashlib.blake2b(value or b"", digest_size=8).digest()


def declared_identities(handler: Handler) -> dict[type[Contract], Callable[[Any], str]]:
    """Return the identities that the topics of `handler` declare, by class. A deletion has no fields, and so none."""
    homes = {contract: contract.__home__ for contract in handler.consumes if deleted_class(contract) is None}
    return {contract: home.identity for contract, home in homes.items() if home is not None and home.identity}


def identified(call: Invoker, handler: Handler) -> Invoker:
    """Return `call` with the identity that the topics of `handler` declare for their events, if they do."""
    identities = declared_identities(handler)
    if not identities:
        return call

    def known(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        if (identify := identities.get(type(event))) is not None:
            meta.declared = meta.identity = identify(event)
        return call(event, meta, context)

    return known


def _filler(parameter: Parameter) -> Callable[[EventMetadata, HandlerContext], Any]:
    of = parameter.of
    match parameter.need:
        case Need.STATE:
            return lambda meta, context: context.states[of]
        case Need.SESSION:
            return lambda meta, context: context.session
        case Need.CONNECTION:
            return lambda meta, context: context.connection
        case Need.ENVELOPE:
            return lambda meta, context: meta.envelope()
        case Need.CALL:
            return lambda meta, context: context.call
        case Need.TIMERS:
            return lambda meta, context: context.timers
        case _:
            return lambda meta, context: context.resources[of]


def keyed(contract: type[Contract], call: Invoker) -> Invoker:
    """Return `call` for events of `contract` as they are decoded: those of a tombstone are still without their key."""
    if contract.__deletes__ is None:
        return call
    return lambda event, meta, context: call(with_key(event, meta.message.key()), meta, context)


def done_within(outputs: Any) -> Any:
    """Return the outputs of a handler; a generator is run to its end now, and not when its outputs are read."""
    return outputs if outputs is None or isinstance(outputs, Contract) else list(outputs)


def retry_handler(
    handler: Handler,
    attempt: Callable[[], T],
    *,
    stop: threading.Event,
    failed: BaseException | None = None,
    before_wait: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Call `attempt` until it succeeds or the handler's `Retry` allows no more.

    - `attempt`: one whole call of a synchronous handler; it must leave nothing behind when it raises.
    - `failed`: the error of a first attempt that was made already.
    - `before_wait`: called before each wait, such as to commit what earlier events did.
    - `clock`: seconds that count for `Retry.within`.

    Raises `GaveUp`, or `Stopping` if `stop` is set during a wait.
    """
    began, failures = clock(), 0
    try:
        while True:
            if failed is None:
                try:
                    return attempt()
                except ProcessEnds:
                    raise
                except BaseException as error:
                    failed = error
            failures += 1
            if not handler.retry.allows(failed, failures, clock() - began):
                raise GaveUp(failed, failures) from failed
            if before_wait is not None:
                before_wait()
            if stop.wait(handler.retry.backoff(failures)):
                raise Stopping
            failed = None
    finally:
        # Its traceback names this frame: neither would go before the garbage is collected.
        failed = None
