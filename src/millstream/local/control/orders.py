"""What a broker needs from its start to take orders later: a clock that can be put forward, sessions that ask rules."""

from collections.abc import Callable

from millstream.local.broker import Broker
from millstream.local.broker.server import OpenSession
from millstream.local.broker.timers import Clock
from millstream.local.faults.clock import ShiftedClock
from millstream.local.faults.rules import Rules
from millstream.local.faults.session import FaultySession


class Orders:
    """The rules and the clock of one broker."""

    def __init__(self, clock: Clock) -> None:
        self.clock = ShiftedClock(clock)
        self.rules = Rules()

    def sessions_of(self, broker: Broker) -> OpenSession:
        def open_session(host: str, hang_up: Callable[[], None]) -> FaultySession:
            return FaultySession(broker, host, self.rules, hang_up)

        return open_session
