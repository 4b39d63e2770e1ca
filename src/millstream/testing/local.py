"""The local broker and registry as a child process that a test can kill and start again."""

import json
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from millstream.extras import require
from millstream.testing.child import StartFailed, end, first_line, last_lines, spawn
from millstream.testing.ports import free_ports

if TYPE_CHECKING:
    from millstream.testing.faults import BrokerControl, BrokerFaults

READY_WITHIN_SECONDS = 60.0


class LocalKafka:
    """A running `millstream broker` on `data`, listening on loopback ports that stay the same for its life.

    - `auto_create`: makes topics on first use with so many partitions. 0, other than that command has it: a topic that
      no test made is a mistake.
    - `like_a_cluster`: transactions take the time that they take on a cluster.

    Raises `StartFailed` if it is not ready within 60 s. Whoever makes one stops it, or uses it as a context manager:

        with LocalKafka(tmp_path) as kafka:
            produce(kafka.bootstrap)
            kafka.kill()
            kafka.restart()

    `faults` makes failures on demand, until the broker ends; a broker that is started again has none:

        with kafka.faults.crash("Produce", "after"):
            produce(kafka.bootstrap)
            kafka.wait_for_crash()
        kafka.restart()
    """

    def __init__(self, data: Path, *, auto_create: int = 0, like_a_cluster: bool = False) -> None:
        require("local", "`LocalKafka`")
        self._data = data
        self._options = ["--auto-create", str(auto_create), *(["--like-a-cluster"] if like_a_cluster else [])]
        self._output = data / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)
        broker_port, registry_port, control_port = free_ports(3)
        self.bootstrap = f"127.0.0.1:{broker_port}"
        self.registry = f"http://127.0.0.1:{registry_port}"
        self.control = f"http://127.0.0.1:{control_port}"
        self._start()

    @property
    def pid(self) -> int:
        """The process; raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the local broker does not run; call restart()")
        return self._process.pid

    @cached_property
    def _orders(self) -> "BrokerControl":
        from millstream.testing.faults import BrokerControl

        return BrokerControl(self.control)

    @property
    def faults(self) -> "BrokerFaults":
        """Failures on demand: `error`, `delay`, `drop`, `close`, `lose_response`, `crash`, `observe`."""
        return self._orders.faults

    def advance(self, seconds: float) -> None:
        """Put the broker's clock forward: sessions, transactions and retention that fall due meanwhile end at once."""
        self._orders.advance(seconds)

    def wait_for_group(self, group: str, members: int | None = None, timeout: float = 10.0) -> list[dict[str, Any]]:
        """The members of a group once it is stable with `members` of them; 0: once all have left.

        Raises TimeoutError saying how the group stands.
        """
        return self._orders.wait_for_group(group, members, timeout)

    def compact(self, topic: str) -> None:
        """Leave only the last record of every key, now. Raises LookupError if there is no such topic."""
        self._orders.compact(topic)

    def expire(self) -> None:
        """Let retention take what is due by the broker's clock, now."""
        self._orders.expire()

    def wait_for_crash(self, timeout: float = 10.0) -> None:
        """Return once the broker is dead, by a `faults.crash`; `restart()` brings it back. Raises TimeoutError."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"the broker still runs after {timeout:g} s; no request met the rule") from None

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
        command += ["--control", self.control.removeprefix("http://"), "--json"]
        command += self._options
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
