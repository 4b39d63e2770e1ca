"""A whole system in its own processes, as `millstream up --json` starts it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from millstream.testing.child import with_tests

READY_WITHIN = 60.0
STOP_WITHIN = 15.0


class Running:
    """`millstream up` on a folder of its own and free ports. A context manager: everything ends with it.

    - `arguments`: further ones for `millstream up`.
    - `env`: further environment variables of all processes.
    """

    def __init__(self, data: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        ports = [] if "--bootstrap-servers" in arguments else ["--kafka-port", "0", "--registry-port", "0"]
        command = [_ours("millstream"), "up", "--json", "--data", str(data), "--port", "0"]
        data.mkdir(parents=True, exist_ok=True)
        self._errors = (data / "up.log").open("wb")
        self._process = subprocess.Popen(
            [*command, *ports, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | (env or {}),
            preexec_fn=with_tests(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of `millstream up` itself."""
        return self._process.pid

    @property
    def state(self) -> dict[str, Any]:
        """What `up.json` says."""
        return json.loads((self.data / "up.json").read_text())

    @property
    def url(self) -> str:
        """The public address."""
        return self.state["public"]

    @property
    def env(self) -> dict[str, str]:
        """The environment for tools that look at this system."""
        state = self.state
        return os.environ | {
            "MILLSTREAM_BOOTSTRAP_SERVERS": state["bootstrap_servers"],
            "MILLSTREAM_REGISTRY_URL": state["registry"],
            "MILLSTREAM_DATA_DIR": str(self.data),
        }

    def address(self, name: str) -> str:
        """The URL of one process."""
        return self.state["processes"][name]["url"]

    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        return {name: process["pid"] for name, process in self.state["processes"].items() if process["pid"]}

    def await_event(self, kind: str, name: str = "", after: int = 0, within: float = READY_WITHIN) -> int:
        """Waits for an event at place `after` or later, and answers the place behind it."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for place in range(after, len(self.events)):
                    event = self.events[place]
                    if event["event"] == kind and event.get("name", "") == name:
                        return place + 1
                left = deadline - time.monotonic()
                if left <= 0 or (self._process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no {kind!r} of {name or 'the whole'!r} within {within:g} s:\n{self.story()}")
                self._changed.wait(min(left, 0.5))

    def kill(self, name: str) -> int:
        """Kills one process with SIGKILL; answers the place from which on its return is to be awaited."""
        with self._changed:
            place = len(self.events)
        os.kill(self.pids()[name], signal.SIGKILL)
        return self.await_event("exited", name, place, within=10)

    def run(self, *command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Runs a command of ours against this system."""
        return subprocess.run(
            [_ours(command[0]), *command[1:]],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def stop(self) -> float:
        """Ctrl-C; answers how many seconds the end took."""
        if self._process.poll() is None:
            began = time.monotonic()
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_WITHIN)
                return time.monotonic() - began
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"did not end within {STOP_WITHIN:g} s of Ctrl-C:\n{self.story()}") from None
        return 0.0

    def story(self) -> str:
        """The last that was heard, for a test that fails."""
        logs = "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            for log in sorted((self.data / "logs").glob("*.log"))
        )
        told = (self.data / "up.log").read_text(errors="replace")
        return "\n".join([*(json.dumps(event) for event in self.events[-15:]), told, logs])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        try:
            self.await_event("up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._reader.join(5)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._errors.close()


def _ours(command: str) -> str:
    return str(Path(sys.executable).parent / command)


def eventually(look: Callable[[], Any], *, within: float = 60.0, every: float = 0.05) -> Any:
    """What `look` answers once it answers something true; an HTTP error counts as not yet. Fails after `within` s."""
    deadline = time.monotonic() + within
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = look()
        except httpx.HTTPError as error:
            last = error
        else:
            if last:
                return last
        time.sleep(every)  # between two looks; what is waited for is the condition
    raise AssertionError(f"not within {within:g} s; the last look gave {last!r}")
