"""A world: a seed, a virtual clock, a broker, and the processes of a system, all in this process."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from millstream.kafka.port import Kafka
from millstream.settings import Settings, load_settings
from millstream.testing.simulation.faults import CALM, Faults
from millstream.testing.simulation.kafka import SimulatedKafka
from millstream.testing.simulation.lives import Process
from millstream.testing.simulation.network import SimulatedBroker
from millstream.testing.simulation.scheduler import Scheduler
from millstream.testing.simulation.threads import Threads
from millstream.testing.simulation.virtual import inside, virtual

IN_MEMORY = Path("/dev/shm")  # noqa: S108 the broker's files are read back only by itself


class World(Scheduler):
    """Runs processes against the local broker's core: the same seed makes the same story, byte for byte.

    - `faults`: what goes wrong, and how often. May be set anew at any time, such as to `CALM` at the end.
    - `folder`: for files of its processes, such as their databases; in memory where there is `/dev/shm`.

    Code in its processes runs in threads, one at a time; time passes only while all of them wait: in calls of the port,
    in `time.sleep`, for whatever is built on `threading.Condition`, in an event loop. They have the world's time and
    chance. The test drives the world by calling the port too, or with `until`. Whatever it raises while the world is
    open carries the story as a note.

        with World(seed=7, faults=ROUGH) as world:
            world.kafka().admin().ensure_topics([TopicSpec("orders", 6)])
            world.process("inventory-0", lambda: worker(world.kafka()).run(threading.Event()))
            world.until(lambda: caught_up(world.kafka()), seconds=600)
    """

    def __init__(self, seed: int, faults: Faults = CALM) -> None:
        super().__init__(seed)
        self.seed = seed
        self._faults = faults
        self._weather = 0
        self.processes: list[Process] = []
        self._open = ExitStack()
        self.folder: Path
        self.broker: SimulatedBroker

    @property
    def faults(self) -> Faults:
        """What goes wrong, and how often; from when it is set on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._draw_misfortunes()

    def kafka(self, settings: Settings | None = None, client_id: str = "millstream") -> Kafka:
        """The cluster, for the process that calls: its clients die with it."""
        return SimulatedKafka(self, settings or _from_environment(), client_id)

    def process(self, name: str, main: Callable[[], None], *, restart: bool = True) -> Process:
        """A process that runs `main` from the next wait on. With `restart` it may die, and comes back when it does."""
        process = Process(self, name, main, restart=restart)
        self.processes.append(process)
        return process

    def until(self, ready: Callable[[], Any], seconds: float = 60.0, what: str = "", every: float = 0.02) -> None:
        """Let the world go on until `ready()`, which may call the port. Raises TimeoutError."""
        end = self.now + int(seconds * 1_000_000)
        while not ready():
            if self.now > end:
                raise TimeoutError(f"{what or ready}: not within {seconds:g} s")
            self.sleep(every)

    def __enter__(self) -> Self:
        threads = Threads(self)
        self._open.enter_context(virtual(self, threads.replaced))
        self._open.enter_context(threads.pools())
        temporary = TemporaryDirectory(prefix="millstream-world-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.folder = Path(self._open.enter_context(temporary))
        with inside():
            self.broker = SimulatedBroker(self, self.folder / "broker")
        self._draw_misfortunes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"This is the story of World(seed={self.seed}):\n{self.story}")
        self.closing = True
        with self._open:
            if self.lost:
                return
            for actor in list(self.actors):
                if actor.life is not self._test.life:
                    actor.life.die()
            self.wait(lambda: self.actors == [self._test], 1.0)
            self.broker.kill()

    def _draw_misfortunes(self) -> None:
        # What was drawn from other chances does not come any more. Chance has no memory: to draw anew is no delay.
        self._weather += 1
        self._misfortune(self.faults.crash, self._crash_somebody)
        self._misfortune(self.faults.freeze, self._freeze_somebody)
        self._misfortune(self.faults.broker_crash, self._crash_broker)

    def _misfortune(self, mean: float, strike: Callable[[], None]) -> None:
        """Let it strike again and again, every `mean` seconds on average, until other faults are set."""
        if not mean:
            return
        weather = self._weather

        def come() -> None:
            if weather == self._weather:
                strike()
                self._misfortune(mean, strike)

        self.after(self.random.expovariate(1 / mean), come)

    def _crash_somebody(self) -> None:
        if mortal := [process for process in self.processes if process.mortal]:
            self.random.choice(mortal).kill()

    def _freeze_somebody(self) -> None:
        if mortal := [process for process in self.processes if process.mortal]:
            self.random.choice(mortal).freeze(self.random.uniform(0, self.faults.frozen))

    def _crash_broker(self) -> None:
        self.broker.kill()
        self.after(self.random.uniform(0.1, self.faults.broker_away), self.broker.restart)


@cache
def _from_environment() -> Settings:
    # Reading the environment takes longer than some worlds last.
    return load_settings()
