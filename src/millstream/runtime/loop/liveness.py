"""What a worker lets others know of itself: that it has its partitions. That it lives, the watchdog knows."""

from millstream.telemetry import Health


class Liveness:
    """A worker's part in its process's health: unhealthy until its group gave it partitions.

    - `health`: where it is told; None where nobody asks.
    """

    def __init__(self, health: Health | None, name: str) -> None:
        self._health = health
        self._assigned = f"{name}.assigned"
        if health is not None:
            health.report(self._assigned, "waiting for the group to give it partitions")

    def assigned(self) -> None:
        """The group has decided, and what the partitions need is restored. To be given none is well, too."""
        if self._health is not None:
            self._health.report(self._assigned, None)
