"""Keeps child processes running: started together, watched, started again when they die, ended together."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from millstream.operate.last_will import die_with

State = Literal["starting", "running", "ready", "unready", "waiting", "failed", "stopped"]
Kind = Literal["started", "restarted", "ready", "unready", "said", "exited", "failed", "up", "stopped"]

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds until a process that died starts again; doubling from the first to the longest."""
WELL_AFTER: Final = 3.0
"""Seconds of being ready after which the next death counts as the first."""
LOOK_EVERY: Final = 0.05
PROBE_EVERY: Final = 1.0
"""Seconds between looks at the health of a process that was ready the last time."""
PROBE_TIMEOUT: Final = 1.0
STOP_WITHIN: Final = 4.0
FOUNDATION_STOPS_WITHIN: Final = 1.5
HOPELESS: Final = 2
"""The exit code that says: starting me again would not help."""
MOST_NEWS: Final = 64 * 1024
"""Bytes of a program's output that are looked at at once."""
MOST_LOG: Final = 10 * 1024 * 1024
"""Bytes of a log after which the next start of its process begins a new one."""


@dataclass(frozen=True)
class Program:
    """What to run.

    - `url`: where it answers HTTP; it is ready when `url` + `health` answers 200.
    - `awaited`: whether the whole is up only with it.
    - `foundation`: the others stand on it; it ends after them.
    - `heard`: what it prints is news, beside being logged: each line becomes an event.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    health: str = "/health"
    awaited: bool = True
    foundation: bool = False
    heard: bool = False


class Event(NamedTuple):
    """Something that happened. `name` is empty where it is about the whole."""

    kind: Kind
    name: str = ""
    pid: int | None = None
    code: int | None = None
    detail: str = ""

    def json(self) -> str:
        """One line for machines."""
        told = {"event": self.kind, "at": round(time.time(), 3)} | {
            key: value for key, value in zip(self._fields[1:], self[1:], strict=True) if value not in (None, "")
        }
        return json.dumps(told)


class Supervised:
    """One program and how it is doing."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.state: State = "waiting"
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = -1
        self.since = time.monotonic()
        self._heard = self._logged
        self._amid_long_line = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self.process is None or self.process.returncode is not None else self.process.pid

    def become(self, state: State) -> None:
        """Takes note of a new state."""
        self.state, self.since = state, time.monotonic()

    def start(self) -> None:
        """Starts the program; what it says is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self._logged > MOST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        self._hear_a_new_log_from_its_beginning()
        with self.log.open("ab") as said:
            self.process = subprocess.Popen(  # noqa: S603 the command is ours
                list(self.program.command),
                env={**os.environ, **self.program.env},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                # Ctrl-C reaches a whole process group: who ends when is the supervisor's business.
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        self.restarts += 1
        self.become("starting" if self.program.url else "running")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def news(self) -> list[str]:
        """The whole lines that it has printed since the last call, without those of its log, which are JSON.

        One that is longer than `MOST_NEWS` is no news.
        """
        self._hear_a_new_log_from_its_beginning()
        try:
            with self.log.open("rb") as said:
                said.seek(self._heard)
                chunk = said.read(MOST_NEWS)
        except FileNotFoundError:
            return []  # somebody removed it; the next start makes a new one
        whole = chunk[: chunk.rfind(b"\n") + 1]
        if not whole:
            if len(chunk) == MOST_NEWS:
                self._heard += MOST_NEWS
                self._amid_long_line = True
            return []
        self._heard += len(whole)
        if self._amid_long_line:
            self._amid_long_line = False
            whole = whole.partition(b"\n")[2]
        return [line for line in whole.decode(errors="replace").splitlines() if line and not line.startswith("{")]

    def last_words(self) -> str:
        """The last line of its log; of one in JSON, the message."""
        try:
            with self.log.open("rb") as said:
                said.seek(max(0, self.log.stat().st_size - 8192))
                lines = said.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        last = lines[-1] if lines else ""
        try:
            line = json.loads(last)
            error = line.get("millstream", {}).get("error") or line.get("error", {}).get("message", "")
            return ": ".join(part for part in (line["message"], error) if part)
        except (ValueError, KeyError, AttributeError, TypeError):
            return last

    @property
    def _logged(self) -> int:
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def _hear_a_new_log_from_its_beginning(self) -> None:
        if self._logged < self._heard:
            self._heard, self._amid_long_line = 0, False


class Supervisor:
    """Runs programs until it is told to stop. Made and used on one running event loop.

    - `logs`: the folder for what they say.
    - `on_event`: called for whatever happens, on the event loop.

        supervisor = Supervisor([Program("order", [sys.executable, "-m", "shop"])], logs=Path("logs"))
        await supervisor.run()     # until supervisor.stop(), or a program is hopeless
    """

    def __init__(
        self, programs: Sequence[Program], *, logs: Path, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.children = {program.name: Supervised(program, logs / f"{program.name}.log") for program in programs}
        self.is_up = False
        """Whether all awaited programs were ready at least once."""
        self._on_event = on_event
        self._stop = asyncio.Event()
        self._hopeless = False

    def stop(self) -> None:
        """Ends everything; a second call at once. On the event loop."""
        if self._stop.is_set():
            for child in self.children.values():
                child.signal(signal.SIGKILL)
        self._stop.set()

    async def run(self) -> bool:
        """Runs them all until `stop`. False where it ended because a program was hopeless before everything was up.

        Raises `OSError` for a program that cannot be started at all.
        """
        keepers = [asyncio.create_task(self._keep(child)) for child in self.children.values()]
        for keeper in keepers:
            keeper.add_done_callback(self._kept)
        try:
            await self._stop.wait()
        finally:
            for keeper in keepers:
                keeper.cancel()
            ended = await asyncio.gather(*keepers, return_exceptions=True)
            await self._end()
        for error in ended:
            if isinstance(error, Exception):
                raise error
        self._on_event(Event("stopped"))
        return not self._hopeless

    async def _keep(self, child: Supervised) -> None:
        pause = FIRST_PAUSE
        while True:
            child.start()
            self._tell("restarted" if child.restarts else "started", child)
            well = await self._watch(child)
            assert child.process is not None
            code = child.process.returncode
            self._tell("exited", child, code=code, detail=child.last_words() if code > 0 else "")
            if code == HOPELESS or (child.program.foundation and child.restarts == 0 and well is None):
                child.become("failed")
                self._tell("failed", child, code=code, detail=child.last_words())
                if not self.is_up:
                    self._hopeless = True
                    self._stop.set()
                return
            if well is not None and well > WELL_AFTER:
                pause = FIRST_PAUSE
            child.become("waiting")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _kept(self, keeper: "asyncio.Task[None]") -> None:
        if not keeper.cancelled() and keeper.exception() is not None:
            self._stop.set()

    async def _watch(self, child: Supervised) -> float | None:
        """Returns when the process has ended: for how many seconds it had been ready, or None if it never was."""
        assert child.process is not None
        ready_at: float | None = None
        look_at = 0.0
        while child.process.poll() is None:
            now = time.monotonic()
            if child.program.url is not None and now >= look_at:
                well = await _answers(child.program.url + child.program.health)
                if child.process.poll() is not None:
                    break
                if well and ready_at is None:
                    ready_at = time.monotonic()
                self._note(child, well, ready_before=ready_at is not None)
                look_at = time.monotonic() + (PROBE_EVERY if well else LOOK_EVERY)
            if child.program.heard:
                for line in child.news():
                    self._tell("said", child, detail=line)
            await asyncio.sleep(LOOK_EVERY)
        return None if ready_at is None else time.monotonic() - ready_at

    def _note(self, child: Supervised, well: bool, *, ready_before: bool) -> None:
        if well and child.state != "ready":
            child.become("ready")
            self._tell("ready", child, detail=child.program.url or "")
            awaited = [other for other in self.children.values() if other.program.awaited]
            if not self.is_up and all(other.state == "ready" for other in awaited if other.program.url):
                self.is_up = True
                self._on_event(Event("up"))
        elif not well and ready_before and child.state == "ready":
            child.become("unready")
            self._tell("unready", child)

    async def _end(self) -> None:
        await self._end_all([child for child in self.children.values() if not child.program.foundation], STOP_WITHIN)
        foundation = [child for child in self.children.values() if child.program.foundation]
        await self._end_all(foundation, FOUNDATION_STOPS_WITHIN)

    async def _end_all(self, children: Sequence[Supervised], seconds: float) -> None:
        running = [child for child in children if child.process is not None]
        for child in running:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(child.pid and child.process and child.process.poll() is None for child in running):
            if time.monotonic() > deadline:
                for child in running:
                    child.signal(signal.SIGKILL)
            await asyncio.sleep(0.02)
        for child in running:
            child.become("stopped")

    def _tell(self, kind: Kind, child: Supervised, *, code: int | None = None, detail: str = "") -> None:
        pid = child.process.pid if child.process else None
        self._on_event(Event(kind, child.program.name, pid, code, detail))


async def _answers(url: str) -> bool:
    """Whether a GET is answered 200 in time."""
    authority, _, path = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                await reader.read(65_536)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
