"""Handlers that fail for a while, as they do when a database is busy or a disk is full."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from millstream.declare import Handler, Kind, key_of
from millstream.testing.simulation.world.world import World

MIN_ATTEMPTS = 10
"""Handlers with fewer attempts are left alone: their events would become dead letters."""


class SimulatedError(OSError):
    """A fault of the world; a later attempt succeeds."""


def with_errors(world: World, handler: Handler) -> Handler:
    """Return a handler that fails for some events for a while, as the faults of `world` say.

    Effects are left as they are: what they call fails by itself.
    """
    if handler.kind is Kind.EFFECT or (handler.retry.attempts or MIN_ATTEMPTS) < MIN_ATTEMPTS:
        return handler
    function: Callable[..., Any] = handler.function
    until: dict[tuple[type, str], float] = {}

    @wraps(function)
    def run(event: Any, *arguments: Any) -> Any:
        faults, now, event_key = world.faults, world.now / 1_000_000, (type(event), key_of(event))
        if faults.handler_error and event_key not in until:
            fails = world.random.random() < faults.handler_error
            until[event_key] = now + world.random.uniform(0, faults.handler_error_seconds) if fails else 0.0
        if now < until.get(event_key, 0.0):
            world.record(world.incarnation.name, f"{handler.name} fails for {type(event).__name__} {key_of(event)}")
            raise SimulatedError("a fault of the world")
        return function(event, *arguments)

    return replace(handler, function=run)
