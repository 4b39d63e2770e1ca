"""The network between clients and the broker: how long messages take, and which requests it loses."""

from millstream.testing.simulation.cluster.faults import Faults, RequestOutcome
from millstream.testing.simulation.scheduler.scheduler import Scheduler


class Network:
    """Draws delays and outcomes as `faults` say, which may be set at any time."""

    def __init__(self, scheduler: Scheduler, faults: Faults) -> None:
        self.scheduler = scheduler
        self.faults = faults

    def message_delay(self) -> float:
        """Draw how many seconds one message takes; a few take ten times as long as is usual."""
        shortest, longest = self.faults.delay
        return shortest + (longest - shortest) * self.scheduler.random.random() ** 3

    def request_outcome(self) -> RequestOutcome:
        """Draw what becomes of one request."""
        chance, random = self.faults.disconnect, self.scheduler.random
        if not chance or random.random() >= chance:
            return "answered"
        return random.choice(("lost", "answer lost", "late"))
