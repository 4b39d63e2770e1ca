"""The local broker and registry as a child process that a test can kill and start again."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from millstream.testing.child import StartFailed, end, first_line, last_lines, spawn
from millstream.testing.ports import free_ports

READY_WITHIN_SECONDS = 60.0


class LocalKafka:
    """A running `python -m millstream.local` on `data`, listening on loopback ports that stay the same for its life.

    Raises `StartFailed` if it is not ready within 60 s. Whoever makes one stops it, or uses it as a context manager:

        with LocalKafka(tmp_path) as kafka:
            produce(kafka.bootstrap)
            kafka.kill()
            kafka.restart()
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._output = data / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)
        broker_port, registry_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{broker_port}"
        self.registry = f"http://127.0.0.1:{registry_port}"
        self._start()

    @property
    def pid(self) -> int:
        """The process; raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the local broker does not run; call restart()")
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it with SIGTERM; after ten seconds with SIGKILL. Nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start it again on the same data and ports, stopping it first if it still runs."""
        self.stop()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "millstream.local", "--data", str(self._data / "data")]
        command += ["--listen", self.bootstrap, "--registry", self.registry.removeprefix("http://")]
        self._process = spawn(command, output=self._output, stdout=subprocess.PIPE)
        try:
            ready = json.loads(first_line(self._process, READY_WITHIN_SECONDS))
        except ValueError:
            self.kill()
            raise StartFailed(f"the local broker is not ready:\n{last_lines(self._output)}") from None
        assert (ready["bootstrap"], ready["registry"]) == (self.bootstrap, self.registry)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, how=how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
