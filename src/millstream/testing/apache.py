"""Apache Kafka (KRaft, combined roles) on loopback, from jars that Maven fetches, for tests marked `real`."""

import base64
import contextlib
import fcntl
import re
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Any, Self

from millstream.testing.child import StartFailed, end, last_lines, spawn, wait_until
from millstream.testing.ports import free_ports

READY_WITHIN_SECONDS = 120.0
_PROJECT = Path(__file__).resolve().parents[3]
_POM = _PROJECT / "deploy" / "kafka" / "pom.xml"
# One compiler tier and a serial collector start twice as fast, which is what a test waits for.
_JAVA = [
    *("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    "-Dorg.apache.logging.log4j.level=WARN",
]


class ApacheKafka:
    """A running cluster of `nodes` nodes, numbered from 1, with its data under `data`.

    With three nodes topics get replication 3 and `min.insync.replicas` 2. Raises `StartFailed` if Java, Maven or the
    jars are missing, TimeoutError if it is not ready within two minutes. Whoever makes one stops it, or uses `with`:

        with ApacheKafka(tmp_path, nodes=3) as kafka:
            produce(kafka.bootstrap)
            kafka.kill(2)
            kafka.restart(2)
    """

    def __init__(self, data: Path, *, nodes: int = 1) -> None:
        self._data = data
        self._nodes = range(1, nodes + 1)
        ports = free_ports(2 * nodes)
        self._client_ports = dict(zip(self._nodes, ports[:nodes], strict=True))
        self._controller_ports = dict(zip(self._nodes, ports[nodes:], strict=True))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self._client_ports.values())
        try:
            self._format()
            for node in self._nodes:
                self._start(node)
            self._wait_for_all()
        except BaseException:
            self.stop()
            raise

    def kill(self, node: int) -> None:
        """End one node with SIGKILL, as a crash would."""
        end(self._processes.pop(node), how=signal.SIGKILL)

    def restart(self, node: int) -> None:
        """Start a killed node again on the same data and port, and wait until all nodes know it."""
        self._start(node)
        self._wait_for_all()

    def stop(self) -> None:
        """End every node at once; the data is not meant to be used again."""
        for node in list(self._processes):
            self.kill(node)

    def _start(self, node: int) -> None:
        if node in self._processes:
            raise RuntimeError(f"node {node} runs already")
        self._processes[node] = spawn(java("kafka.Kafka", str(self._properties(node))), output=self._output(node))

    def _format(self) -> None:
        cluster = _kafka_uuid()
        quorum = ["--standalone"]
        if len(self._nodes) > 1:
            voters = [f"{n}@127.0.0.1:{port}:{_kafka_uuid()}" for n, port in self._controller_ports.items()]
            quorum = ["--initial-controllers", ",".join(voters)]
        formatting: list[subprocess.Popen[bytes]] = []
        for node in self._nodes:
            self._properties(node).parent.mkdir(parents=True)
            self._properties(node).write_text(self._settings(node))
            command = ["format", f"--cluster-id={cluster}", "-c", str(self._properties(node)), *quorum]
            formatting.append(spawn(java("kafka.tools.StorageTool", *command), output=self._output(node)))
        for node, process in zip(self._nodes, formatting, strict=True):
            try:
                failed = process.wait(READY_WITHIN_SECONDS) != 0
            finally:
                end(process, how=signal.SIGKILL)
            if failed:
                raise StartFailed(f"Apache Kafka cannot format its disk:\n{last_lines(self._output(node))}")

    def _settings(self, node: int) -> str:
        client, controller = self._client_ports[node], self._controller_ports[node]
        copies = len(self._nodes)
        settings = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.bootstrap.servers": ",".join(
                f"127.0.0.1:{port}" for port in self._controller_ports.values()
            ),
            "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self._properties(node).parent / "log",
            "default.replication.factor": copies,
            "min.insync.replicas": max(1, copies - 1),
            "auto.create.topics.enable": "false",
            # Internal topics small enough for a laptop, groups and brokers quick enough for a test.
            "offsets.topic.num.partitions": 5,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": 5,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "share.coordinator.state.topic.num.partitions": 5,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": max(1, copies - 1),
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 200,
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 4000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _properties(self, node: int) -> Path:
        return self._data / f"node-{node}" / "server.properties"

    def _output(self, node: int) -> Path:
        return self._data / f"node-{node}" / "output.log"

    def _wait_for_all(self) -> None:
        def ready() -> bool:
            for node, process in self._processes.items():
                if process.poll() is not None:
                    raise StartFailed(f"Apache Kafka's node {node} ended:\n{last_lines(self._output(node))}")
            return all(_brokers_known_to(self._client_ports[node]) == len(self._processes) for node in self._processes)

        wait_until(ready, seconds=READY_WITHIN_SECONDS, what="every node of Apache Kafka is ready", every=0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def java(main: str, *arguments: str) -> list[str]:
    """The command that runs a class of Apache Kafka's jars."""
    return ["java", *_JAVA, "-cp", f"{jars()}/*", main, *arguments]


def jars(pom: Path = _POM) -> Path:
    """The folder with Apache Kafka's jars, or another pom's: filled by Maven when it is not there yet (55 MB, once).

    Raises `StartFailed` if Java, Maven or the jars are missing.
    """
    named = re.search(r"<(\w+)\.version>(.+?)</", pom.read_text())
    assert named is not None
    folder = _PROJECT / ".kafka" / f"{named[1]}-{named[2]}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _fetch(pom)
            (folder / "complete").touch()
    return folder


def _fetch(pom: Path) -> None:
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise StartFailed(f"Apache Kafka needs {tool}: install Java 17 and Maven")
    # --no-transfer-progress keeps the log readable; the goal downloads nothing that is in Maven's own cache.
    command = ["mvn", "-q", "-B", "--no-transfer-progress", "-f", str(pom), "dependency:copy-dependencies"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603 our own command
    if done.returncode:
        raise StartFailed(f"Maven cannot fetch what {pom.parent.name} needs:\n{done.stdout[-2000:]}")


def _brokers_known_to(port: int) -> int:
    """How many live brokers the node on `port` names in its Metadata; 0 while it does not answer."""
    request = struct.pack(">hhih", 3, 1, 0, -1) + struct.pack(">i", 0)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        # not up yet, or no longer
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answer:
            head = answer.read(12)
            if len(head) == 12:
                return struct.unpack(">i", head[8:])[0]
    return 0


def _kafka_uuid() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
