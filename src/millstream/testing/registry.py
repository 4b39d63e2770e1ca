"""The schema registry as a child process beside any Kafka."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from millstream.testing.child import StartFailed, end, first_line, last_lines, spawn

READY_WITHIN_SECONDS = 60.0


class RegistryProcess:
    """A running `python -m millstream.local.registry` that keeps its schemas in the Kafka at `bootstrap`.

    Raises `StartFailed` if it is not ready within 60 s. Whoever makes one stops it, or uses it as a context manager.
    """

    def __init__(self, bootstrap: str, output: Path) -> None:
        command = [sys.executable, "-m", "millstream.local.registry"]
        command += ["--bootstrap-servers", bootstrap, "--listen", "127.0.0.1:0"]
        self._process = spawn(command, output=output, stdout=subprocess.PIPE)
        try:
            self.url: str = json.loads(first_line(self._process, READY_WITHIN_SECONDS))["registry"]
        except ValueError:
            self.stop()
            raise StartFailed(f"the schema registry is not ready:\n{last_lines(output)}") from None

    def stop(self) -> None:
        end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
