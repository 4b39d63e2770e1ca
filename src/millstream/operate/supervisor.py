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
from millstream.operate.log_lines import for_people, read_line
from millstream.operate.process_log import ProcessLog, Quota
from millstream.timeouts import HEALTH_TIMEOUT, PLATFORM_STOP_TIMEOUT, PROCESS_STOP_TIMEOUT, RESTART_PAUSES

State = Literal["starting", "running", "ready", "unready", "waiting", "failed", "stopped"]
Kind = Literal["started", "restarted", "ready", "unready", "said", "logged", "exited", "failed", "up", "stopped"]
Shown = Literal["trouble", "all"]
"""Lines of logs that are told as events: warnings and errors, or all."""

WELL_AFTER: Final = 3.0
"""Seconds of being ready after which the next death counts as the first."""
LOOK_EVERY: Final = 0.05
PROBE_EVERY: Final = 1.0
"""Seconds between looks at the health of a process that was ready the last time."""
HOPELESS: Final = 2
"""The exit code that says: starting me again would not help."""
LISTEN_EVERY: Final = 0.2
"""Seconds between looks at the log of a process."""
MAX_LINES: Final = 20
"""Lines of trouble that one process has told in `LINES_SECONDS` seconds; those beyond are counted."""
LINES_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Program:
    """A program to run.

    - `url`: where it answers HTTP; it is ready when `url` + `health` answers 200.
    - `awaited`: whether the whole is up only with it.
    - `foundation`: the others stand on it; it ends after them.
    - `heard`: what it prints is news, beside being logged: each line becomes an event. Of all others, the warnings and
      errors of their logs do.
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
    level: str = ""
    """Of what was logged, such as `warning`; empty for a line without one."""

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
        self._written = ProcessLog(log)
        self._listened_at = 0.0
        self._quota = Quota(MAX_LINES, LINES_SECONDS)

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self.process is None or self.process.returncode is not None else self.process.pid

    def become(self, state: State) -> None:
        """Record a new state."""
        self.state, self.since = state, time.monotonic()

    def start(self) -> None:
        """Starts the program; what it says is appended to its log."""
        self._written.begin()
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
        """The whole lines of its log since the last call. A log that has grown large is set aside then."""
        lines = self._written.lines()
        if not lines:
            self._written.rotate()
        return lines

    def listen(self, shown: Shown, *, now: bool = False) -> list[tuple[Kind, str, str]]:
        """Return what is to be told of its log since the last time, as kind, level and text; seldom, unless `now`."""
        if not now and time.monotonic() < self._listened_at + LISTEN_EVERY:
            return []
        self._listened_at = time.monotonic()
        told: list[tuple[Kind, str, str]] = []
        for line in map(read_line, self.news()):
            if shown == "all" or (line.is_trouble and self._quota.take()):
                told.append(("logged", line.level, for_people(line)))
            elif self.program.heard and line.record is None and not line.level:
                told.append(("said", "", line.text))
        if (left := self._quota.left_out()) > 0:
            told.append(("logged", "warning", f"… {left} more lines of trouble: millstream logs {self.program.name}"))
        return told

    def last_words(self) -> str:
        """Return what it logged last since its start, for people."""
        return self._written.last_words()


class Supervisor:
    """Runs programs until it is told to stop. Made and used on one running event loop.

    - `logs`: the folder for what they say.
    - `shown`: which lines of their logs are told as events: warnings and errors, or all.
    - `on_event`: called for whatever happens, on the event loop.

        supervisor = Supervisor([Program("order", [sys.executable, "-m", "shop"])], logs=Path("logs"))
        await supervisor.run()     # until supervisor.stop(), or a program is hopeless
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        logs: Path,
        shown: Shown = "trouble",
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.children = {program.name: Supervised(program, logs / f"{program.name}.log") for program in programs}
        self.is_up = False
        """True once all awaited programs have been ready."""
        self._shown: Shown = shown
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
            for child in self.children.values():
                self._listen(child, now=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        self._on_event(Event("stopped"))
        return not self._hopeless

    async def _keep(self, child: Supervised) -> None:
        pause = RESTART_PAUSES.first
        while True:
            child.start()
            self._tell("restarted" if child.restarts else "started", child)
            well = await self._watch(child)
            assert child.process is not None
            code = child.process.returncode
            self._listen(child, now=True)
            self._tell("exited", child, code=code, detail=child.last_words() if code > 0 else "")
            if code == HOPELESS or (child.program.foundation and child.restarts == 0 and well is None):
                child.become("failed")
                self._tell("failed", child, code=code, detail=child.last_words())
                if not self.is_up:
                    self._hopeless = True
                    self._stop.set()
                return
            if well is not None and well > WELL_AFTER:
                pause = RESTART_PAUSES.first
            child.become("waiting")
            await asyncio.sleep(pause)
            pause = RESTART_PAUSES.after(pause)

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
            self._listen(child)
            await asyncio.sleep(LOOK_EVERY)
        return None if ready_at is None else time.monotonic() - ready_at

    def _listen(self, child: Supervised, *, now: bool = False) -> None:
        for kind, level, text in child.listen(self._shown, now=now):
            self._tell(kind, child, detail=text, level=level)

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
        await self._end_all(
            [child for child in self.children.values() if not child.program.foundation], PROCESS_STOP_TIMEOUT
        )
        foundation = [child for child in self.children.values() if child.program.foundation]
        await self._end_all(foundation, PLATFORM_STOP_TIMEOUT)

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

    def _tell(
        self, kind: Kind, child: Supervised, *, code: int | None = None, detail: str = "", level: str = ""
    ) -> None:
        pid = child.process.pid if child.process else None
        self._on_event(Event(kind, child.program.name, pid, code, detail, level))


async def _answers(url: str) -> bool:
    """Return whether a GET is answered 200 in time."""
    authority, _, path = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                await reader.read(65_536)
            finally:
                writer.close()
    except (OSError, TimeoutError):  # no answer is the answer
        return False
    return status.split(b" ")[1:2] == [b"200"]
