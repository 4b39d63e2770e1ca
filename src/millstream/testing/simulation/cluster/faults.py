"""The faults of a world, and how often they happen."""

from typing import Literal, NamedTuple

RequestOutcome = Literal["answered", "lost", "answer lost", "late", "held"]
"""The outcome of a request; held ones arrive when `SimulatedBroker.release` is called."""


class Faults(NamedTuple):
    """Chances are from 0 to 1, times in seconds; what is drawn comes from the world's seed.

    - `delay`: the shortest and the longest time that a message takes.
    - `disconnect`: the chance of a request that its connection breaks. The request is then lost, or carried out without
      an answer, or carried out up to `late_seconds` later.
    - `commit_unknown`: the chance that a commit whose connection broke ends at once, with `CommitUnknown`.
    - `crash`, `freeze`, `broker_crash`: the mean time between two of them, in the whole world; 0 never. A frozen
      process does nothing for up to `freeze_seconds` and then goes on as if nothing had been. The broker is down for up
      to `broker_down_seconds`.
    - `handler_error`: the chance of an event that its handler fails, at every attempt for up to
      `handler_error_seconds`. Only handlers of `Services` fail that are to be tried ten times or more.
    """

    delay: tuple[float, float] = (0.0002, 0.001)
    disconnect: float = 0.0
    late_seconds: float = 2.0
    commit_unknown: float = 0.5
    crash: float = 0.0
    freeze: float = 0.0
    freeze_seconds: float = 15.0
    broker_crash: float = 0.0
    broker_down_seconds: float = 3.0
    handler_error: float = 0.0
    handler_error_seconds: float = 2.0


CALM = Faults()
"""Nothing goes wrong, and messages take up to a millisecond."""

ROUGH = Faults(
    delay=(0.0002, 0.05), disconnect=0.01, crash=4.0, freeze=20.0, broker_crash=15.0, handler_error=0.02
)  # fmt: skip
"""Everything goes wrong, all the time."""
