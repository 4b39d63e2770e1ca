"""What goes wrong in a world, and how often."""

from random import Random
from typing import Literal, NamedTuple

Fate = Literal["answered", "lost", "answer lost", "late", "held"]
"""What becomes of a request; held ones arrive when `SimulatedBroker.release` is called."""


class Faults(NamedTuple):
    """Chances are from 0 to 1, times in seconds; what is drawn comes from the world's seed.

    - `delay`: the shortest and the longest way of a message.
    - `hang_up`: the chance of a request that its connection breaks. The request is then lost, or carried out without an
      answer, or carried out up to `late` seconds later.
    - `impatience`: the chance that a commit whose connection broke is given up at once, with `CommitUnknown`.
    - `crash`, `freeze`, `broker_crash`: how long on average between two of them, in the whole world; 0 never. A frozen
      process does nothing for up to `frozen` seconds and then goes on as if nothing had been. The broker is away for up
      to `broker_away` seconds.
    - `stumble`: the chance of an event that its handler fails, at every attempt for up to `stumbling` seconds. Only
      handlers of `Services` stumble that are to be tried ten times or more.
    """

    delay: tuple[float, float] = (0.0002, 0.001)
    hang_up: float = 0.0
    late: float = 2.0
    impatience: float = 0.5
    crash: float = 0.0
    freeze: float = 0.0
    frozen: float = 15.0
    broker_crash: float = 0.0
    broker_away: float = 3.0
    stumble: float = 0.0
    stumbling: float = 2.0

    def way(self, random: Random) -> float:
        """How long one message takes; now and then ten times as long as is usual."""
        shortest, longest = self.delay
        return shortest + (longest - shortest) * random.random() ** 3

    def fate(self, random: Random) -> Fate:
        """What becomes of one request."""
        if not self.hang_up or random.random() >= self.hang_up:
            return "answered"
        return random.choice(("lost", "answer lost", "late"))


CALM = Faults()
"""Nothing goes wrong, and messages take up to a millisecond."""

ROUGH = Faults(
    delay=(0.0002, 0.05), hang_up=0.01, crash=4.0, freeze=20.0, broker_crash=15.0, stumble=0.02
)  # fmt: skip
"""Everything goes wrong, all the time."""
