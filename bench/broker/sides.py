"""The two brokers, each in a process of its own, and what a process has cost so far."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Self

from millstream.operate.last_will import die_with

_TICKS = os.sysconf("SC_CLK_TCK")
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_PATIENCE = 60.0
_BROKER = (sys.executable, "-m", "millstream.local", "--listen", "127.0.0.1:0", "--json", "--exit-with-parent")


class Side:
    """A broker at `bootstrap`, and its process. A context manager: it is stopped in the end."""

    name: str
    bootstrap: str
    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End the process, gracefully for as long as it takes no more than a minute."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Local(Side):
    """Ours, on `data`. `started_in` is the milliseconds from the start of the process to its first answer."""

    name = "ours"

    def __init__(self, data: Path) -> None:
        began = time.perf_counter()
        self._process = subprocess.Popen([*_BROKER, "--data", str(data)], stdout=subprocess.PIPE)
        self.bootstrap = json.loads(_line(self._process.stdout))["bootstrap"]
        _first_answer(self.bootstrap)
        self.started_in = (time.perf_counter() - began) * 1000


class Mock(Side):
    """librdkafka's, which keeps nothing on disk and at most 5 MB of each partition in memory."""

    name = "mock"

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.broker.mock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.bootstrap = _line(self._process.stdout).decode().strip()


def work(side: Side, load: str, **arguments: Any) -> dict[str, Any]:
    """Run one of the functions of `bench.broker.client` in a process of its own; what it found."""
    command = [sys.executable, "-m", "bench.broker.client", load, side.bootstrap, str(side.pid), json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True, preexec_fn=die_with(os.getpid()))
    return json.loads(done.stdout)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its threads have used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _line(stream: IO[bytes] | None) -> bytes:
    line = stream.readline() if stream else b""
    if not line:
        raise RuntimeError("a broker ended before it was ready")
    return line


def _first_answer(bootstrap: str) -> None:
    """Returns when the broker has answered ApiVersions."""
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
        connection.sendall(_API_VERSIONS)
        if not connection.recv(4):
            raise RuntimeError(f"{bootstrap} closed the connection instead of answering")
