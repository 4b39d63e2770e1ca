"""The fault schedule: when a process or the broker crashes or freezes, drawn from the world's seed."""

from collections.abc import Callable, Sequence

from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.scheduler.process import Process


class FaultSchedule:
    """Faults of processes and of the broker, as often as the network's `faults` say."""

    def __init__(self, host: Host, processes: Sequence[Process]) -> None:
        self._scheduler, self._network, self._broker = host
        self._processes = processes
        self._version = 0
        self.draw()

    def draw(self) -> None:
        """Draw the next faults. What was drawn before does not happen any more.

        Times between faults are exponential, so that a new draw delays nothing.
        """
        self._version += 1
        faults = self._network.faults
        self._repeat(faults.crash, self._crash_process)
        self._repeat(faults.freeze, self._freeze_process)
        self._repeat(faults.broker_crash, self._crash_broker)

    def _repeat(self, mean: float, fault: Callable[[], None]) -> None:
        """Let a fault happen every `mean` seconds on average, until the next draw."""
        if not mean:
            return
        version = self._version

        def happen() -> None:
            if version == self._version:
                fault()
                self._repeat(mean, fault)

        self._scheduler.after(self._scheduler.random.expovariate(1 / mean), happen)

    def _crash_process(self) -> None:
        if candidates := self._candidates():
            self._scheduler.random.choice(candidates).kill()

    def _freeze_process(self) -> None:
        if candidates := self._candidates():
            process, longest = self._scheduler.random.choice(candidates), self._network.faults.freeze_seconds
            process.freeze(self._scheduler.random.uniform(0, longest))

    def _crash_broker(self) -> None:
        self._broker.kill()
        longest = self._network.faults.broker_down_seconds
        self._scheduler.after(self._scheduler.random.uniform(0.1, longest), self._broker.restart)

    def _candidates(self) -> list[Process]:
        return [process for process in self._processes if process.restartable]
