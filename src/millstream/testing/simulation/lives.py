"""Processes of a world: what runs in them, one thread at a time, and how they die."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from millstream.runtime.worker import ProcessEnds
from millstream.testing.simulation.tasks import Steps, Task
from millstream.testing.simulation.virtual import inside, outside

if TYPE_CHECKING:
    from millstream.testing.simulation.scheduler import Scheduler

T = TypeVar("T")


class Crashed(ProcessEnds):
    """The process ends here and now, as by kill -9: nothing that comes on the way out has any effect."""


class Life:
    """A process from its start to its end. What it leaves behind it leaves as it is."""

    def __init__(self, scheduler: "Scheduler", name: str, ended: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.ended = ended
        """Called when its last thread has ended."""
        self.dead = False
        self.frozen_until = 0
        self.threads = 0
        self.error: BaseException | None = None
        self.at_death: list[Callable[[], None]] = []
        self._scheduler = scheduler

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in so many seconds: later while the process is frozen, never when it is dead."""

        def act() -> None:
            if self.dead:
                return
            if self._scheduler.now < self.frozen_until:
                self._scheduler.at(self.frozen_until, act, self)
            else:
                action()

        self._scheduler.after(seconds, act, self)

    def task(self, steps: Steps[T]) -> Task[T]:
        """Let `steps` go on beside everything else in this process."""
        return Task(self, steps)

    def die(self) -> None:
        """End at once; its threads see it when they wait next, which is where they are."""
        if not self.dead:
            self.dead = True
            self._scheduler.touch(self)
            for action in self.at_death:
                action()


class Process:
    """A process that is started again when it has died, if `restart` says so.

    - `life`: the present or the last one.
    - `lives`: how many it has had.
    """

    def __init__(self, scheduler: "Scheduler", name: str, main: Callable[[], None], *, restart: bool) -> None:
        self.name = name
        self.lives = 0
        self._scheduler = scheduler
        self._main = main
        self._restart = restart
        self.life = Life(scheduler, name)
        self.start()

    @property
    def running(self) -> bool:
        """Whether any thread of it has not ended yet."""
        return self.life.threads > 0

    @property
    def error(self) -> BaseException | None:
        """What its last life ended with, if that was no crash."""
        return self.life.error

    @property
    def frozen(self) -> bool:
        """Whether it does nothing now, and will go on as if nothing had been."""
        return self.running and not self.life.dead and self._scheduler.now < self.life.frozen_until

    @property
    def mortal(self) -> bool:
        """Whether misfortune may choose it: whatever dies must come back."""
        return self._restart and self.running and not self.life.dead

    def start(self) -> None:
        """Begin a life."""
        self.lives += 1
        self.life = Life(self._scheduler, self.name, self._ended)
        adopt(self._scheduler, self.life, threading.Thread(target=self._main, name=self.name, daemon=True))

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self.running and not self.life.dead:
            self._scheduler.tell(self.name, "is killed")
            self.life.die()

    def freeze(self, seconds: float) -> None:
        """Let it do nothing for a while, as SIGSTOP and SIGCONT do: it does not know afterwards."""
        self._scheduler.tell(self.name, f"is frozen for {seconds:.3f} s")
        self.life.frozen_until = self._scheduler.now + int(seconds * 1_000_000)
        self._scheduler.after(seconds, lambda: None, self.life)

    def _ended(self) -> None:
        if self.life.error is not None:
            self._scheduler.tell(self.name, f"ends: {type(self.life.error).__name__}: {self.life.error}")
        if self._restart and self.life.dead:
            self._scheduler.after(self._scheduler.random.uniform(0.05, 2.0), self._come_back)

    def _come_back(self) -> None:
        if not self._scheduler.closing:
            self._scheduler.tell(self.name, "starts again")
            self.start()


class Actor:
    """A thread of a process. It runs while it has the baton, and gives it away wherever it waits.

    - `able`: whether it has something to do, as of the last `look`.
    - `turn`: how often it has waited.
    """

    def __init__(self, scheduler: "Scheduler", life: Life, name: str) -> None:
        self.name = name
        self.life = life
        self.baton = threading.Lock()
        self.baton.acquire()
        self.able = False
        self.ended = False
        self.turn = 0
        self._ready: Callable[[], Any] = lambda: True
        self._expired = False
        self._scheduler = scheduler
        scheduler.actors.append(self)
        scheduler.touch(life)

    def wait_for(self, ready: Callable[[], Any]) -> None:
        """Begin to wait."""
        self._ready, self._expired = ready, False
        self.turn += 1

    def expire(self, turn: int) -> None:
        """It has waited for long enough, if it still waits as it did then."""
        if turn == self.turn:
            self._expired = True

    def look(self, now: int) -> None:
        """See whether it can go on: what it waits for is there, or will not come any more."""
        life = self.life
        self.able = life.dead or (now >= life.frozen_until and (self._expired or bool(self._ready())))

    def carry(self, work: Callable[[], None]) -> None:
        """Do the work of a whole thread."""
        self.baton.acquire()
        with inside():
            try:
                if not self.life.dead:
                    work()
            except Crashed:  # killed, as its life says
                pass
            except BaseException as error:
                # As in a real process: what one thread cannot deal with ends them all.
                self.life.error = error
                self.life.die()
            self.ended = True
            self.life.threads -= 1
            self._scheduler.actors.remove(self)
            if not self.life.threads:
                self.life.ended()
            self._scheduler.hand_over()


def adopt(scheduler: "Scheduler", life: Life, thread: threading.Thread) -> Actor:
    """Start a thread as one of a process. Raises `Crashed` where that has died."""
    if life.dead:
        raise Crashed
    actor = Actor(scheduler, life, thread.name)
    life.threads += 1
    work = thread.run
    thread.run = lambda: actor.carry(work)
    with outside():
        thread.start()
    return actor
