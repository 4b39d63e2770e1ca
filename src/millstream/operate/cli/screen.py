"""The screen of `millstream up`: a table that lives on a terminal, plain lines elsewhere, JSON lines for programs."""

import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Protocol, Self

from millstream.operate.supervisor import Event, Supervised
from millstream.operate.up import LOGS, PLATFORM
from millstream.settings import without_credentials

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.operate.up import Up

COLOURS = {"ready": "green", "running": "green", "starting": "yellow", "waiting": "yellow", "unready": "yellow"}
LEVEL_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}


class Screen(Protocol):
    """Shows events as they happen; a context manager."""

    def show(self, event: Event) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def screen_for(up: "Up", *, as_json: bool, terminal: bool) -> "Screen":
    """Return the screen for a terminal, a pipe or a program."""
    if as_json:
        return JsonLines()
    return LiveTable(up) if terminal else PlainLines(up)


class JsonLines:
    """One JSON object a line."""

    def show(self, event: Event) -> None:
        """Writes it at once."""
        _line(event.json())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Once:
    """Takes the detail off what repeats, word for word, what the same process has just told."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def __call__(self, event: Event) -> Event:
        repeated = bool(event.detail) and self._last.get(event.name) == event.detail
        self._last[event.name] = event.detail
        return event._replace(detail="") if repeated and event.kind in ("exited", "failed") else event


class PlainLines(JsonLines):
    """One line for a person."""

    def __init__(self, up: "Up") -> None:
        self._up = up
        self._began = time.monotonic()
        self._once = Once()

    def show(self, event: Event) -> None:
        """Says it in words."""
        event = self._once(event)
        if event.kind == "up":
            _line(f"{self._up.system.name} is up after {time.monotonic() - self._began:.1f} s")
            for line in where(self._up):
                _line(line)
        elif event.kind == "stopped":
            _line("all stopped")
        else:
            _line(f"{event.name:<14} {_words(event)}")


class LiveTable:
    """A table with a row for each process."""

    def __init__(self, up: "Up") -> None:
        from rich.console import Console
        from rich.live import Live

        self._up = up
        self._console = Console()
        self._once = Once()
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def show(self, event: Event) -> None:
        """Draw the table again; errors, and lines of processes, stay above it."""
        from rich.markup import escape

        event = self._once(event)
        if event.kind == "failed" or (event.kind == "exited" and event.code):
            self._console.print(f"[red]{event.name}[/red] {escape(_words(event))}", highlight=False)
        if event.kind in ("said", "logged"):
            colour = LEVEL_COLOURS.get(event.level, "cyan")
            self._console.print(f"[{colour}]{event.name}[/{colour}] {escape(_words(event))}", highlight=False)
        if event.kind == "up":
            for line in where(self._up):
                self._console.print(line, markup=False, highlight=False)
            self._console.print()
        self._live.update(self._table(), refresh=True)

    def _table(self) -> "Table":
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        supervisor = self._up.supervisor
        for child in supervisor.children.values() if supervisor else ():
            colour = COLOURS.get(child.state, "red")
            table.add_row(child.program.name, f"[{colour}]{child.state}[/{colour}]", child.program.url, _again(child))
        return table

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def where(up: "Up") -> list[str]:
    """The addresses that people want."""
    lines: list[str] = []
    if up.public_url:
        lines.append(f"  {up.public_url}")
        if _has_page(f"{up.public_url}/docs"):
            lines.append(f"  {up.public_url}/docs")
    shown = [*up.system.sandbox, *([] if up.public_url else up.system.names)]
    lines += [f"  {name:<12} {up.addresses[name]}" for name in shown if name in up.addresses]
    lines += [
        f"  Kafka        {up.bootstrap_servers}",
        f"  registry     {without_credentials(up.registry)}",
        f"  logs         {up.data / LOGS}; millstream logs --follow shows them",
        "  every service serves /health and /metrics at its own address; Ctrl-C ends all",
    ]
    return lines


def _has_page(url: str) -> bool:
    """Return whether a page answers there within half a second."""
    authority, _, path = url.removeprefix("http://").partition("/")
    connection = HTTPConnection(authority, timeout=0.5)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):  # no answer is the answer
        return False
    finally:
        connection.close()


def _words(event: Event) -> str:
    match event.kind:
        case "started" | "restarted":
            return f"{event.kind}, pid {event.pid}"
        case "said":
            return event.detail
        case "logged":
            return f"{event.level.upper()} {event.detail}" if event.level else event.detail
        case "ready":
            return f"ready at {event.detail}"
        case "exited":
            how = f"killed by signal {-event.code}" if event.code and event.code < 0 else f"exited with {event.code}"
            return f"{how}{f': {event.detail}' if event.detail else ''}"
        case "failed":
            remedy = "" if event.name == PLATFORM else "; starting it again would not help"
            return f"cannot start{remedy}{f': {event.detail}' if event.detail else ''}"
        case _:
            return event.kind


def _again(child: Supervised) -> str:
    return f"restarted {child.restarts} ×" if child.restarts > 0 else ""


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
