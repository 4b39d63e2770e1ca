"""The decision that a handler's declared policy makes about a failure."""

from enum import Enum

from millstream.declare import Handler, OnFailure


class Decision(Enum):
    """The next step for an event whose handler raised."""

    RETRY = "retry"
    """Try again; its key waits meanwhile."""
    DEAD_LETTER = "dead_letter"
    PARK_KEY = "park_key"
    """Its key waits for an operator, and a dead letter reports it."""
    STOP = "stop"


def decide(handler: Handler, error: BaseException, *, attempts: int, seconds: float, keyed: bool) -> Decision:
    """Return what to do after `attempts` failures within `seconds`, the last with `error`.

    An event without a key never waits for an operator: it becomes a dead letter.
    """
    if handler.retry.allows(error, attempts, seconds):
        return Decision.RETRY
    match handler.on_failure:
        case OnFailure.STOP:
            return Decision.STOP
        case OnFailure.PARK_KEY if keyed:
            return Decision.PARK_KEY
        case _:
            return Decision.DEAD_LETTER
