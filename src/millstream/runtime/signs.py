"""What a worker lets others know of itself: that it lives, and that it has its partitions."""

from millstream.telemetry import Health


class Signs:
    """A worker's part in its process's health: unhealthy until its group gave it partitions, and when it is silent.

    - `health`: where it is told; None where nobody asks.
    - `bound`: seconds of silence that are too many.
    """

    def __init__(self, health: Health | None, name: str, bound: float) -> None:
        self._health = health
        self._assigned = f"{name}.assigned"
        self._heartbeat = health.heartbeat(name, bound) if health is not None else None
        if health is not None:
            health.report(self._assigned, "waiting for the group to give it partitions")

    def assigned(self) -> None:
        """The group has decided, and what the partitions need is restored. To be given none is well, too."""
        if self._health is not None:
            self._health.report(self._assigned, None)

    def beat(self) -> None:
        """The worker's loop has turned once more."""
        if self._heartbeat is not None:
            self._heartbeat.beat()
