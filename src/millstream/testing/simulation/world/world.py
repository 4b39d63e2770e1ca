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
from millstream.testing.simulation.cluster.broker import SimulatedBroker
from millstream.testing.simulation.cluster.clients.kafka import SimulatedKafka
from millstream.testing.simulation.cluster.faults import CALM, Faults
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.cluster.network import Network
from millstream.testing.simulation.scheduler.process import Process
from millstream.testing.simulation.scheduler.scheduler import Scheduler
from millstream.testing.simulation.scheduler.threads import Threads
from millstream.testing.simulation.scheduler.virtual_time import inside, virtual
from millstream.testing.simulation.world.fault_schedule import FaultSchedule

IN_MEMORY = Path("/dev/shm")  # noqa: S108 the broker's files are read back only by itself


class World(Scheduler):
    """Runs processes against the local broker's core: the same seed makes the same timeline, byte for byte.

    - `faults`: what goes wrong, and how often. May be set at any time, such as to `CALM` at the end.
    - `folder`: for files of its processes, such as their databases; in memory where there is `/dev/shm`.

    Code in its processes runs in threads, one at a time; time passes only while all of them wait: in calls of the port,
    in `time.sleep`, for whatever is built on `threading.Condition`, in an event loop. They have the world's time and
    chance. The test drives the world by calling the port too, or with `until`. A world is open from its construction
    to the end of its `with` block; an exception that leaves the block carries the timeline as a note.

        with World(seed=7, faults=ROUGH) as world:
            world.kafka().admin().ensure_topics([TopicSpec("orders", 6)])
            world.process("inventory-0", lambda: worker(world.kafka()).run(threading.Event()))
            world.until(lambda: caught_up(world.kafka()), seconds=600)
    """

    def __init__(self, seed: int, faults: Faults = CALM) -> None:
        super().__init__(seed)
        self.seed = seed
        self.processes: list[Process] = []
        with ExitStack() as opened:
            threads = Threads(self)
            opened.enter_context(virtual(self, threads.replaced))
            opened.enter_context(threads.pools())
            temporary = TemporaryDirectory(prefix="millstream-world-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
            self.folder = Path(opened.enter_context(temporary))
            self._network = Network(self, faults)
            with inside():
                self.broker = SimulatedBroker(self._network, self.folder / "broker")
            self._host = Host(self, self._network, self.broker)
            self._fault_schedule = FaultSchedule(self._host, self.processes)
            self._opened = opened.pop_all()

    @property
    def faults(self) -> Faults:
        """The faults from now on, and how often they happen."""
        return self._network.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._network.faults = faults
        self._fault_schedule.draw()

    def kafka(self, settings: Settings | None = None, client_id: str = "millstream") -> Kafka:
        """Return the port for the process that calls: its clients die with it."""
        return SimulatedKafka(self._host, settings or _from_environment(), client_id)

    def process(self, name: str, main: Callable[[], None], *, restart: bool = True) -> Process:
        """Start a process that runs `main` from the next wait on.

        With `restart` the fault schedule may kill it, and it is started again whenever it has died.
        """
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"This is the timeline of World(seed={self.seed}):\n{self.timeline}")
        with self._opened:
            self.end_processes()
            if not self.lost:
                self.broker.kill()


@cache
def _from_environment() -> Settings:
    # Reading the environment takes longer than some worlds last.
    return load_settings()
