"""The health of a worker that waits for its partitions. Whether its loop turns is the watchdog's concern."""

from millstream.telemetry import Health


class Liveness:
    """A worker's part in its process's health: unhealthy until its group gave it partitions.

    - `health`: where it is reported, if anywhere.
    """

    def __init__(self, health: Health | None, name: str) -> None:
        self._health = health
        self._assigned = f"{name}.assigned"
        if health is not None:
            health.report(self._assigned, "waiting for the group to give it partitions")

    def assigned(self) -> None:
        """Report that the group has assigned partitions, even none, and that their state is restored."""
        if self._health is not None:
            self._health.report(self._assigned, None)
