"""Kafka Connect with Debezium's connector for PostgreSQL, in a process of its own."""

import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from millstream.testing import child
from millstream.testing.apache import jars, java
from millstream.testing.ports import free_ports

_POM = Path(__file__).parent / "pom.xml"


class KafkaConnect:
    """A standalone worker with one connector; it saves how far the connector has come in the file `offsets`.

    connect = KafkaConnect(tmp_path, kafka.bootstrap, {"name": "outbox", ...})
    with connect.started():
        connect.wait_until(lambda: ..., what="...")
    """

    def __init__(self, folder: Path, bootstrap: str, connector: Mapping[str, str]) -> None:
        self._folder, self._bootstrap, self._connector = folder, bootstrap, connector
        self.offsets = folder / "offsets"
        self._output = folder / "connect.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def started(self, *, flush_ms: int = 200) -> Self:
        """Start it; it saves its offsets every `flush_ms`."""
        (port,) = free_ports(1)
        self._address = f"http://127.0.0.1:{port}"
        worker = {
            "bootstrap.servers": self._bootstrap,
            "listeners": self._address,
            "plugin.path": jars(_POM),
            # Looking into every class of every jar would take longer than the tests.
            "plugin.discovery": "service_load",
            "offset.storage.file.filename": self.offsets,
            "offset.flush.interval.ms": flush_ms,
            # The connector names its own.
            "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
        }
        files = [self._properties("worker", worker), self._properties("connector", self._connector)]
        command = java("org.apache.kafka.connect.cli.ConnectStandalone", *files)
        self._process = child.spawn(command, output=self._output)
        return self

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            child.end(process, how=signal.SIGKILL)

    def wait_until(self, ready: Callable[[], bool], *, what: str, seconds: float = 90) -> None:
        """Return once `ready()`; raise at once when Connect has ended or the connector has failed."""

        def watched() -> bool:
            trouble = self._trouble()
            assert trouble is None, trouble
            return ready()

        child.wait_until(watched, seconds=seconds, what=what, every=0.2)

    def _trouble(self) -> str | None:
        if self._process is None or self._process.poll() is not None:
            return f"Kafka Connect has ended:\n{child.last_lines(self._output)}"
        try:
            answer = httpx.get(f"{self._address}/connectors/{self._connector['name']}/status", timeout=10)
        except httpx.TransportError:
            return None
        # Until it is up it knows no connector, nor the path to one.
        tasks = answer.json()["tasks"] if answer.is_success else ()
        return next((task["trace"] for task in tasks if task["state"] == "FAILED"), None)

    def _properties(self, name: str, properties: Mapping[str, object]) -> str:
        path = self._folder / f"{name}.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        return str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
