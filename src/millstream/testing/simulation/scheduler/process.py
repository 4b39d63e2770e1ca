"""Processes of a world: started, killed, frozen, and started again."""

import threading
from collections.abc import Callable

from millstream.testing.simulation.scheduler.incarnation import Incarnation
from millstream.testing.simulation.scheduler.scheduler import Scheduler


class Process:
    """A process that is started again when it has died, if `restart` says so.

    - `incarnation`: the present or the last run of it.
    - `incarnations`: how many runs it has had.
    """

    def __init__(self, scheduler: Scheduler, name: str, main: Callable[[], None], *, restart: bool) -> None:
        self.name = name
        self._scheduler = scheduler
        self._main = main
        self._restart = restart
        self.incarnations = 1
        self.incarnation = self._incarnate()

    @property
    def running(self) -> bool:
        """True until its last thread has ended."""
        return self.incarnation.threads > 0

    @property
    def error(self) -> BaseException | None:
        """The error that ended its last incarnation, if that was no crash."""
        return self.incarnation.error

    @property
    def frozen(self) -> bool:
        """True while it does nothing and will go on as if nothing had been."""
        return self.running and not self.incarnation.dead and self._scheduler.now < self.incarnation.frozen_until

    @property
    def restartable(self) -> bool:
        """True while it runs and would start again when killed: the fault schedule chooses among these."""
        return self._restart and self.running and not self.incarnation.dead

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self.running and not self.incarnation.dead:
            self._scheduler.record(self.name, "is killed")
            self.incarnation.die()

    def freeze(self, seconds: float) -> None:
        """Let it do nothing for a while, as SIGSTOP and SIGCONT do: it does not know afterwards."""
        self._scheduler.record(self.name, f"is frozen for {seconds:.3f} s")
        self.incarnation.frozen_until = self._scheduler.now + int(seconds * 1_000_000)
        self._scheduler.after(seconds, lambda: None, self.incarnation)

    def _incarnate(self) -> Incarnation:
        incarnation = Incarnation(self._scheduler, self.name, self._on_end)
        self._scheduler.start_thread(incarnation, threading.Thread(target=self._main, name=self.name, daemon=True))
        return incarnation

    def _on_end(self) -> None:
        if self.incarnation.error is not None:
            self._scheduler.record(
                self.name, f"ends: {type(self.incarnation.error).__name__}: {self.incarnation.error}"
            )
        if self._restart and self.incarnation.dead:
            self._scheduler.after(self._scheduler.random.uniform(0.05, 2.0), self._come_back)

    def _come_back(self) -> None:
        if not self._scheduler.closing:
            self._scheduler.record(self.name, "starts again")
            self.incarnations += 1
            self.incarnation = self._incarnate()
