"""Workers that run in threads of the test."""

import threading
from typing import Generic, TypeVar

from millstream.runtime.worker import Worker

W = TypeVar("W", bound=Worker)


class Running(Generic[W]):
    """A worker in a thread."""

    def __init__(self, worker: W) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=worker.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run(self._stop)
        except BaseException as error:
            self.error = error

    def stop(self, seconds: float = 60) -> None:
        self._stop.set()
        self.wait(seconds)

    def wait(self, seconds: float = 60) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"{self.worker.name} does not stop"
