"""One broker to a data directory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from millstream.local.broker.errors import InUse


class DataLock:
    """Holds `folder` for this process while it is entered; the system lets go of it when the process dies, however it
    dies.

    Raises InUse naming the holder if another process has it, OSError if the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> "DataLock":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise InUse(
                f"{self._folder} is in use by the broker with pid {holder}; stop it or name another folder"
            ) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
