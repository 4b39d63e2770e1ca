"""Handlers that fail for a while, as they do beside a database that is busy or a disk that is full."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from millstream.declare import Handler, Kind, key_of
from millstream.testing.simulation.world import World

PATIENT = 10
"""Attempts after which nothing stumbles any more."""


class Stumbled(OSError):
    """A fault of the world; later it will work."""


def stumbling(world: World, handler: Handler) -> Handler:
    """`handler`, which fails with some events for a while, as the faults of `world` say.

    Effects are left as they are: whoever they call stumbles by himself.
    """
    if handler.kind is Kind.EFFECT or (handler.retry.attempts or PATIENT) < PATIENT:
        return handler
    function: Callable[..., Any] = handler.function
    until: dict[tuple[type, str], float] = {}

    @wraps(function)
    def stumbles(event: Any, *given: Any) -> Any:
        faults, now, one = world.faults, world.now / 1_000_000, (type(event), key_of(event))
        if faults.stumble and one not in until:
            unlucky = world.random.random() < faults.stumble
            until[one] = now + world.random.uniform(0, faults.stumbling) if unlucky else 0.0
        if now < until.get(one, 0.0):
            world.tell(world.life.name, f"{handler.name} stumbles over {type(event).__name__} {key_of(event)}")
            raise Stumbled("a fault of the world")
        return function(event, *given)

    return replace(handler, function=stumbles)
