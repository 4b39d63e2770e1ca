"""A whole system on this machine: the local platform, every service, and the sandbox around them."""

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

from millstream.declare import System
from millstream.errors import ConfigurationError, did_you_mean
from millstream.extras import require
from millstream.operate.ports import Reserved
from millstream.operate.supervisor import Event, Program, Shown, Supervisor

HOST = "127.0.0.1"
PLATFORM = "platform"
STATE_FILE = "up.json"
PORTS_FILE = "ports.json"
"""The port that each process had, so that it has the same at the next start."""
LOGS = "logs"
"""The folder below its data where each process has its log."""


class Up:
    """Starts a system and keeps it running. A context manager: it holds its folder and its ports until it is left.

    - `place`: `"module:attribute"` of the system, for the child processes.
    - `data`: the folder for data, logs and `up.json`. One at a time may use it.
    - `port`: of the public address. `kafka_port`, `registry_port`: of the local platform. 0 takes a free one.
    - `bootstrap_servers`, `registry`: a cluster to use instead of the local platform; both or neither.
    - `like_a_cluster`: transactions on the local platform take the time that they take on a cluster.
    - `extra`: optional sandbox processes to start, too.
    - `shown`: which lines of the processes' logs are told as events.

    Raises `ConfigurationError` for a folder or port that is taken, or a name that the system does not have.

        with Up(system, "orders.system:system", data=Path(".millstream")) as up:
            asyncio.run(up.run(print))
    """

    def __init__(
        self,
        system: System,
        place: str,
        *,
        data: Path,
        port: int = 8000,
        kafka_port: int = 9092,
        registry_port: int = 8081,
        bootstrap_servers: str | None = None,
        registry: str | None = None,
        like_a_cluster: bool = False,
        extra: Collection[str] = (),
        shown: Shown = "trouble",
    ) -> None:
        if (bootstrap_servers is None) != (registry is None):
            raise ConfigurationError("--bootstrap-servers and --registry belong together: give both, or neither")
        if like_a_cluster and bootstrap_servers is not None:
            raise ConfigurationError(
                "--like-a-cluster is for the local platform, and --bootstrap-servers uses another: leave one out"
            )
        if bootstrap_servers is None:
            require("local", "The local platform")
        self._like_a_cluster = like_a_cluster
        self.system, self.data = system, data.resolve()
        self._place = place
        self._shown: Shown = shown
        self._ports: list[Reserved] = []
        self._lock = _hold(self.data)
        self._on_event: Callable[[Event], None] = lambda event: None
        self.supervisor: Supervisor | None = None
        try:
            self.platform: tuple[Reserved, Reserved] | None = None
            if bootstrap_servers is None:
                broker = self._reserve(kafka_port, "the local broker's", "--kafka-port")
                self.platform = broker, self._reserve(registry_port, "the local schema registry's", "--registry-port")
                bootstrap_servers, registry = broker.address, self.platform[1].url
            self.bootstrap_servers = bootstrap_servers
            self.registry = str(registry)
            names = [*system.names, *self._sandbox(extra)]
            self.public = next((name for name, process in system.sandbox.items() if process.public), None)
            if self.public is None:
                self.public = system.names[0] if len(system.names) == 1 else None
            before = _ports_before(self.data)
            self._addresses = {
                name: self._reserve_as_before(port if name == self.public else 0, before.get(name, 0)) for name in names
            }
            ports = before | {name: address.port for name, address in self._addresses.items()}
            (self.data / PORTS_FILE).write_text(json.dumps(ports, indent=2) + "\n")
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> dict[str, str]:
        """The URL of each process."""
        return {name: reserved.url for name, reserved in self._addresses.items()}

    @property
    def public_url(self) -> str | None:
        """The address that users open, where the system has one."""
        return self.addresses[self.public] if self.public else None

    def programs(self) -> list[Program]:
        """All processes of the system, the platform first."""
        env = {
            # Without marks below the lines of a traceback, code takes nearly a megabyte less in each process.
            "PYTHONNODEBUGRANGES": "1",
            "MILLSTREAM_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "MILLSTREAM_REGISTRY_URL": self.registry,
            "MILLSTREAM_DATA_DIR": str(self.data),
            "MILLSTREAM_ADDRESSES": json.dumps(self.addresses),
        }
        run = [sys.executable, "-m", "millstream.operate", "--system", self._place, "run"]
        optional = {name for name, process in self.system.sandbox.items() if process.optional}
        programs = [
            Program(
                name,
                [*run, name],
                env | {"MILLSTREAM_HTTP": address.address},
                url=address.url,
                awaited=name not in optional,
                heard=name in optional,
            )
            for name, address in self._addresses.items()
        ]
        if self.platform is None:
            return programs
        broker, registry = self.platform
        local = [sys.executable, "-m", "millstream.local", "--data", str(self.data / "broker")]
        local += ["--listen", broker.address, "--registry", registry.address, "--json"]
        # A system's topics are declared: a name that nobody declared is a mistake, and must not become a topic.
        local += ["--auto-create", "0", *(["--like-a-cluster"] if self._like_a_cluster else [])]
        return [Program(PLATFORM, local, url=registry.url, foundation=True), *programs]

    async def run(self, on_event: Callable[[Event], None]) -> bool:
        """Runs everything until SIGINT or SIGTERM; a second one kills.

        False where it ended because something cannot be started at all; the events say what.
        """
        self._on_event = on_event
        self.supervisor = Supervisor(self.programs(), logs=self.data / LOGS, shown=self._shown, on_event=self._note)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.supervisor.stop)
        try:
            return await self.supervisor.run()
        finally:
            (self.data / STATE_FILE).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the folder and the ports."""
        for reserved in self._ports:
            reserved.release()
        self._lock.close()

    def __enter__(self) -> "Up":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sandbox(self, extra: Collection[str]) -> list[str]:
        optional = [name for name, process in self.system.sandbox.items() if process.optional]
        if unknown := sorted(set(extra) - set(optional)):
            raise ConfigurationError(
                f"--with {unknown[0]}{did_you_mean(unknown[0], optional)}: {self.system.name} has "
                f"{', '.join(optional) or 'nothing'} to start besides"
            )
        return [name for name in self.system.sandbox if name not in optional or name in extra]

    def _reserve(self, port: int, purpose: str, option: str) -> Reserved:
        self._ports.append(Reserved(HOST, port, purpose=purpose, option=option))
        return self._ports[-1]

    def _reserve_as_before(self, port: int, before: int) -> Reserved:
        """At `port`; where any will do, at the one of the last start if that is still free."""
        if not port and before:
            try:
                return self._reserve(before, "an address of before", "--port")
            except ConfigurationError:
                pass  # somebody else has it now
        return self._reserve(port, "the public address", "--port")

    def _note(self, event: Event) -> None:
        if event.kind not in ("said", "logged"):
            self._write_state()
        self._on_event(event)

    def _write_state(self) -> None:
        assert self.supervisor is not None
        processes: dict[str, Any] = {
            name: {
                "pid": child.pid,
                "state": child.state,
                "restarts": max(0, child.restarts),
                "url": child.program.url,
                "log": str(child.log),
            }
            for name, child in self.supervisor.children.items()
        }
        state = {
            "pid": os.getpid(),
            "system": self._place,
            "up": self.supervisor.is_up,
            "bootstrap_servers": self.bootstrap_servers,
            "registry": self.registry,
            "public": self.public_url,
            "addresses": self.addresses,
            "processes": processes,
        }
        fresh = self.data / f"{STATE_FILE}.new"
        fresh.unlink(missing_ok=True)
        # Commands beside it need the registry's password, which is nobody else's to read.
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(self.data / STATE_FILE)


def running(data: Path) -> dict[str, Any] | None:
    """Return what the `up` that runs on `data` has written into `up.json`; None where none runs."""
    try:
        state = json.loads((data / STATE_FILE).read_text())
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):  # no state, or of a process that is gone: none runs
        return None
    return state


def _ports_before(data: Path) -> dict[str, int]:
    """The ports that processes had at the last start on this folder."""
    try:
        found = json.loads((data / PORTS_FILE).read_text())
        return {str(name): int(port) for name, port in found.items() if 0 < int(port) < 65_536}
    except (OSError, ValueError, AttributeError, TypeError):  # the first start, or a file of another's
        return {}


def _hold(data: Path) -> IO[str]:
    data.mkdir(parents=True, exist_ok=True)
    lock = (data / "up.lock").open("a+")
    deadline = time.monotonic() + 1.0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    lock.close()
    other = running(data)
    who = f"process {other['pid']}" if other else "another process"
    raise ConfigurationError(
        f"`millstream up` runs on {data} already ({who}). Stop it, or use another folder with --data"
    )
