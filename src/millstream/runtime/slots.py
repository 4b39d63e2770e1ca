"""Slots: which instance of a service a process is. One process holds a slot at a time."""

import fcntl
import json
import os
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Self

from millstream.errors import SlotTaken
from millstream.settings import Settings
from millstream.timeouts import SLOT_TIMEOUT

_LOOK_AGAIN = 0.05


class Slot:
    """The slot `settings.slot` of a service, held while the context is open.

    A slot gives a process its name in consumer groups and its transactional id, so two holders would fence each other
    without end. A lock file keeps processes of one machine apart; it is free again the moment its holder dies. Across
    machines, the consumer groups of the service say who holds it (`Librdkafka.wait_for_memberships`).

    - `timeout`: seconds to wait for a holder that is on its way out.

    Raises `SlotTaken` naming the holder.

        with Slot("payment", settings):
            ...
    """

    def __init__(self, service: str, settings: Settings, *, timeout: float = SLOT_TIMEOUT) -> None:
        self.name = f"{service}-{settings.slot}"
        self._path = settings.data_dir / "slots" / f"{self.name}.json"
        self._timeout = timeout
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            self._wait_for(file)
        except BaseException:
            file.close()
            raise
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "since": since}))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # The file stays: removing it would let a third process lock a new one while a second waits for this one.
            self._file.close()
            self._file = None

    def _wait_for(self, file: IO[str]) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SlotTaken(self._who()) from None
                time.sleep(_LOOK_AGAIN)
            else:
                return

    def _who(self) -> str:
        try:
            holder = json.loads(self._path.read_text())
            who = f"process {holder['pid']} since {holder['since']}"
        except (OSError, ValueError, KeyError):  # its holder is about to write it
            who = "another process"
        return (
            f"Slot {self.name} is held by {who}. Stop it, or give this process a slot of its own with MILLSTREAM_SLOT."
        )
