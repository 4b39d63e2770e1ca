"""Workers that run in threads of the test."""

import threading
from typing import Generic, TypeVar

from millstream.runtime.worker import Worker

W = TypeVar("W", bound=Worker)


class Running(Generic[W]):
    """A worker in a thread; it has `patience` seconds to stop, unless told otherwise."""

    def __init__(self, worker: W, patience: float = 60) -> None:
        self.worker = worker
        self._patience = patience
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=worker.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run(self._stop)
        except BaseException as error:
            self.error = error

    def stop(self, seconds: float | None = None) -> None:
        self._stop.set()
        self.wait(seconds)

    def wait(self, seconds: float | None = None) -> None:
        self._thread.join(self._patience if seconds is None else seconds)
        assert not self._thread.is_alive(), f"{self.worker.name} does not stop"
