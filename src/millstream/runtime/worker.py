"""The parts of a service's process: workers, one thread each."""

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from millstream.contracts.catalogue import Contracts
    from millstream.kafka.port import Kafka
    from millstream.settings import Settings
    from millstream.telemetry import Health


class ProcessEnds(BaseException):
    """This process ends at once: no event's failure, and the only error that a worker passes on as it is.

    Whatever else a handler raises is its event's failure, also what is no `Exception`: a library's `sys.exit()`, or a
    panic of its native code. Otherwise that event would end the process again at every start.
    """


class Stopping(Exception):
    """The worker was stopped while it waited, such as for the next attempt of a handler; the event is not done."""


class Worker(Protocol):
    """One thread's work.

    `run` blocks until `stop` is set, then finishes its work in hand and returns within a few seconds. It raises
    where it cannot go on, which ends the process; its supervisor starts it again. Each look at `stop` is
    a sign of life: a worker that does not look for minutes, in a loop or in a wait, is taken for one that hangs.
    """

    name: str

    def run(self, stop: threading.Event) -> None: ...


class Background(Protocol):
    """A worker that a service runs beside its handlers, such as a view's sink. `Service.background` lists them.

    It reads `topic`, as the consumer group `group`.
    """

    topic: str
    group: str

    def worker(
        self, settings: "Settings", contracts: "Contracts", kafka: "Kafka", *, health: "Health | None" = None
    ) -> Worker:
        """Make the worker. Called once in each process of the service."""
        ...
